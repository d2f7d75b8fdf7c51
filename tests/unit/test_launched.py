"""A secret for programs: what its record says, and the presets."""

import pytest

from agent_broker.enroll.launcher import presets
from agent_broker.errors import IntegrityError, MisuseError
from agent_broker.vault.launched import Delivery, Launched, launched_of

CURL = Launched((Delivery(option="--netrc-file", file="password {secret}"),), ("/usr/bin/curl",), {"/opt/x": "a" * 64})


def test_a_record_says_what_was_said():
    assert launched_of(CURL.attributes(), "it") == CURL


@pytest.mark.parametrize(
    "delivery",
    [
        Delivery(), Delivery(variable="A", option="--b"), Delivery(option="--b"), Delivery(variable="A=B"),
        Delivery(variable="A B"), Delivery(variable="A\n"), Delivery(variable="1A"),
        Delivery(option="b", file="{secret}"),
        Delivery(variable="A", file="no mark"), Delivery(variable="A", file="{secret}\0"),
    ],
)  # fmt: skip
def test_a_way_that_no_program_could_read_is_none(delivery):
    with pytest.raises(MisuseError):
        Launched((delivery,), ("/usr/bin/curl",)).attributes()


@pytest.mark.parametrize("programs", [(), ("curl",), ("/usr/bin/cu\nrl",), ("/x",) * 65])
def test_a_secret_is_for_programs_by_their_whole_path(programs):
    with pytest.raises(MisuseError):
        Launched((Delivery(variable="A"),), programs).attributes()


@pytest.mark.parametrize("attributes", [{}, {"launched": "{}"}, {"launched": "nothing"}])
def test_a_record_that_says_nothing_is_damaged(attributes):
    with pytest.raises(IntegrityError):
        launched_of(attributes, "it")


@pytest.mark.parametrize("name", presets())
def test_every_preset_can_be_used(name):
    preset = presets()[name]

    preset.delivery("registry.example:8443", "alice").require_well_formed()
    assert preset.programs


@pytest.mark.parametrize("host", ["", "a b", "a\nmachine b"])
def test_a_preset_needs_a_host_that_is_one_word(host):
    with pytest.raises(MisuseError, match="--host"):
        presets()["netrc"].delivery(host, "alice")


def test_npm_is_given_its_own_variable():
    assert presets()["npm"].delivery("r.example", "") == Delivery("npm_config_//r.example/:_authToken")
