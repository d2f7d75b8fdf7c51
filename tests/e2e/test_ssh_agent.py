"""The ssh-agent with both daemons and the real OpenSSH: who logs in where, who does not, and what is told of it."""

import pytest

from tests.e2e.measured import report_of
from tests.e2e.ssh_agent.main import CANNOT_RUN

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

USER, TYPED, TOOL = "another program", "a terminal", "the agent's tool"
CONFIG = "# my hosts\nHost good bad\n  HostName 127.0.0.1\n  User root\n\n# the end"


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """What happened on this machine; in a process of its own, since it leaves the machine's network."""
    return report_of("tests.e2e.ssh_agent.main", CANNOT_RUN, tmp_path_factory.mktemp("ssh"))


def test_enrolment_moves_the_keys_and_leaves_decoys_of_their_kind(played):
    told = played["enrolled"]
    assert told["secret in"] == []
    assert told["public"]
    assert told["config"] == "IdentityAgent SOCKET\n" + CONFIG
    assert told["decoys"] == {
        "id_ed25519": "-----BEGIN OPENSSH PRIVATE KEY",
        "work.pem": "-----BEGIN RSA PRIVATE KEY----",
    }


def test_the_user_logs_in_and_the_agent_only_with_the_key_that_a_rule_gives_it(played):
    told = played["logins"]
    assert (told[USER], told[TYPED], told["the agent's tool, allowed"]) == ("IN", "IN", "IN")
    assert "agent refused operation" in told[TOOL]
    assert "agent refused operation" in told["the agent's tool, the other key"]
    assert told["the other key"] == "IN"
    assert set(told["alerts"]) == {"release-refused"}  # a rule's no, told as information


def test_git_pushes_and_signs(played):
    assert played["git"] == {USER: "IN", TOOL: "IN"}


@pytest.mark.parametrize(
    "who", ["a copy of ssh", "a copy of ssh, below the agent", "LD_PRELOAD", "KRB5_CONFIG", "PKCS11Provider"]
)
def test_who_is_not_ssh_alone_logs_in_nowhere(played, who):
    assert "Permission denied" in played["impostors"][who]


def test_the_libraries_of_the_attack_did_run(played):
    for each in ("LD_PRELOAD", "PKCS11Provider", "PKCS11Provider, unloaded"):
        assert played["impostors"][each].startswith("foreign code ran, ")


@pytest.mark.parametrize("who", ["a program of the user", "a tool of the agent"])
def test_who_speaks_the_protocol_by_himself_gets_no_keys_and_no_signature(played, who):
    assert played["impostors"][who].endswith("listed False signed False answer 05\n")


def test_a_program_that_git_is_told_to_use_is_not_ssh(played):
    assert "fatal" in played["impostors"]["GIT_SSH_COMMAND"]


def test_each_that_asked_for_a_signature_is_told_of(played):
    assert played["impostors"]["alerts"].count("release-refused") >= 3
    assert played["impostors"]["alerts"].count("decoy-opened") >= 2


def test_a_key_with_destinations_is_used_for_no_other_host(played):
    told = played["destinations"]
    assert (told["its host"], told["by known_hosts"], told["again any host"]) == ("IN", "IN", "IN")
    assert "agent refused operation" in told["another host"]


def test_a_rule_can_be_about_a_host_that_is_proven(played):
    told = played["destinations"]
    assert told["a rule for this host"] == "IN"
    assert "agent refused operation" in told["a rule for a host that is not proven to be it"]


def test_a_forwarded_agent_is_refused(played):
    assert "agent refused operation" in played["forwarding"]["forwarded"]


def test_ssh_may_look_at_its_decoys_and_nobody_else(played):
    told = {"ssh itself": [], "cat": ["decoy-opened"], "cat and scan": ["decoy-opened"]}
    assert played["decoy"] == told


def test_without_a_broker_it_is_a_plain_no(played):
    assert "Permission denied" in played["broker_down"]["down"]
    assert played["broker_down"]["up again"] == "IN"


def test_the_journal_says_which_host_and_holds_no_secret(played):
    assert played["journal"] == {"login": True, "file": True, "refused": True, "secret": False}


def test_unenroll_puts_every_byte_back(played):
    assert played["unenrolled"] == {"differs": [], "more": [], "login": "IN"}
