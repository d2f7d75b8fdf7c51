"""What enrolling the aws command makes of ~/.aws: which profiles move, which stay and why, and the way back."""

import json

import pytest

from agent_broker.enroll.aws import AwsRecipe
from agent_broker.enroll.recipe import AbsentError
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import load_registry
from tests.fakes.aws_world import SHIM, AwsWorld
from tests.fakes.enroll_world import UID

pytestmark = pytest.mark.kernel

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
OTHER_KEY, OTHER_SECRET = "AKIAI44QH8DHBEXAMPLE", "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY"


def pair(name, key=KEY, secret=SECRET, more=""):
    return f"[{name}]\naws_access_key_id = {key}\naws_secret_access_key={secret}\n{more}"


@pytest.fixture
def world():
    made = AwsWorld()
    yield made
    made.close()


CREDENTIALS = f"# mine\n{pair('default')}\n; work\n{pair('dev', OTHER_KEY, OTHER_SECRET, 'x_unknown = 1')}"
CONFIG = "[default]\nregion=eu-west-1\n# a comment\n\n[profile dev]\nregion = us-east-1\ns3 =\n  max_queue_size = 1\n"


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_keys_move_and_each_profile_asks_the_broker(world, newline, end):
    world.write(CREDENTIALS.replace("\n", newline) + end, CONFIG.replace("\n", newline))
    before = world.snapshot()

    world.enroll()

    assert world.processes() == {
        "default": [str(SHIM), "aws", "default"],
        "profile dev": [str(SHIM), "aws", "dev"],
    }
    text = (world.aws / "credentials").read_text() + (world.aws / "config").read_text()
    assert not any(secret in text for secret in (SECRET, OTHER_SECRET, KEY, OTHER_KEY))
    assert all(kept in text for kept in ("# mine", "; work", "x_unknown = 1", "# a comment", "max_queue_size = 1"))
    kept = world.stored()
    assert json.loads(kept["dev"].content) == {"aws_access_key_id": OTHER_KEY, "aws_secret_access_key": OTHER_SECRET}
    assert kept["default"].attributes == {"modes": "mint release", "profile": "default", "regions": "eu-west-1"}
    world.unenroll()
    assert world.snapshot() == before


def test_the_decoy_has_a_name_that_no_profile_had(world):
    """Keys under a profile's own name would be used in place of credential_process."""
    world.write(pair("default") + pair("admin", OTHER_KEY, OTHER_SECRET))

    world.enroll()

    held = world.read("credentials")
    decoys = [name for name in held.sections() if "aws_access_key_id" in held[name]]
    assert decoys == ["backup"]
    assert held["backup"]["aws_access_key_id"].startswith("AKIA")
    (enrolled,) = load_registry(world.site().tools_dir)
    assert [(each.path, each.shared) for each in enrolled.decoys] == [(str(world.aws / "credentials"), True)]


def test_keys_of_the_configuration_move_as_well(world):
    world.write(config=pair("default") + pair('profile "a b"', OTHER_KEY, OTHER_SECRET))
    before = world.snapshot()

    world.enroll()

    assert world.processes() == {
        "default": [str(SHIM), "aws", "default"],
        'profile "a b"': [str(SHIM), "aws", "a b"],
    }
    assert world.stored()["a-b"].attributes["profile"] == "a b"
    world.unenroll()
    assert world.snapshot() == before


def test_a_profile_that_only_has_keys_gets_a_section(world):
    world.write(pair("x y"))

    world.enroll()

    assert world.processes() == {"profile 'x y'": [str(SHIM), "aws", "x y"]}


def test_a_role_is_assumed_by_the_broker_so_that_its_source_can_be_kept_from_whoever_may_use_it(world):
    config = (
        "[profile prod]\nregion = eu-west-1\nrole_arn = arn:aws:iam::123456789012:role/x\nsource_profile = base\n"
        "external_id = 4711\nrole_session_name = me\noutput = json\n"
    )
    world.write(pair("base"), config)
    before = world.snapshot()

    world.enroll()

    assert dict(world.read("config")["profile prod"]) == {
        "region": "eu-west-1", "output": "json", "credential_process": f"{SHIM} aws prod",
    }  # fmt: skip
    kept = world.stored()
    assert kept["prod"].content == kept["base"].content
    assert kept["prod"].attributes == {
        "modes": "mint", "profile": "prod", "regions": "eu-west-1", "external_id": "4711",
        "role_arn": "arn:aws:iam::123456789012:role/x", "role_session_name": "me",
    }  # fmt: skip
    world.unenroll()
    assert world.snapshot() == before


def test_temporary_keys_are_released_since_sts_gives_them_no_session(world):
    world.write(pair("default", "ASIAIOSFODNN7EXAMPLE", more="aws_security_token = FwoGZXIvYXdzEBYaDExample\n"))

    plan = world.plan()
    world.apply(plan)

    assert world.stored()["default"].attributes["modes"] == "release"
    assert "aws_security_token" not in (world.aws / "credentials").read_text()
    assert any("temporary" in warning for warning in plan.warnings)


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ("sso_session = mine", "logs in by SSO"),
        ("sso_start_url = https://x", "logs in by SSO"),
        ("credential_process = /bin/x", "gets its keys from a command"),
        ("web_identity_token_file = /x\nrole_arn = arn:aws:iam::1:role/x", "shows a web identity"),
        ("role_arn = arn:aws:iam::1:role/x\ncredential_source = Ec2InstanceMetadata", "has"),
        ("role_arn = arn:aws:iam::1:role/x\nsource_profile = default\nmfa_serial = x", "a person types"),
        ("role_arn = arn:aws:iam::1:role/x\nsource_profile = chained", "by the profile chained"),
    ],
)
def test_what_has_no_keys_stays_and_the_plan_says_why(world, members, why):
    chained = "[profile chained]\nrole_arn = arn:aws:iam::1:role/y\nsource_profile = default\n"
    world.write(pair("default"), f"{chained}[profile other]\n{members}\n")

    plan = world.plan()
    world.apply(plan)

    assert any("the profile other" in each and why in each for each in plan.warnings), plan.warnings
    assert [str(SHIM), "aws", "other"] not in world.processes().values()


@pytest.mark.parametrize(
    ("credentials", "config", "complaint"),
    [
        (None, "[profile x]\nsso_session = mine\n", "keys of its own; the profile x logs in by SSO"),
        (None, None, "keys of its own"),
        ("[default]\naws_access_key_id = AKIAX\n", None, "half a pair"),
        (pair("default"), pair("default"), "in both"),
        (pair("default", secret='"quoted"'), None, "not plain text"),
        (pair("$(x)"), None, "can't stand in a command"),
        (pair("default"), "[plugins]\nx = y\ncli_legacy_plugin_path = /home/me\n", "plug-ins"),
    ],
)
def test_what_can_t_be_moved_is_said_before_anything_is_touched(world, credentials, config, complaint):
    world.write(credentials, config)
    before = world.snapshot()

    with pytest.raises(MisuseError, match=complaint):
        world.plan()

    assert world.snapshot() == before
    assert not world.store.records


def test_nothing_to_move_is_no_mistake_where_all_users_are_enrolled(world):
    with pytest.raises(AbsentError):
        world.plan()


def test_what_is_registered_refuses_the_command_that_prints_them(world):
    world.write(pair("default"))
    world.enroll()

    (enrolled,) = load_registry(world.site().tools_dir)

    assert "export-credentials" in enrolled.role.refused_arguments
    assert enrolled.serving.shim == str(SHIM)
    assert enrolled.owner_uid == UID


def test_a_version_managers_script_is_not_taken_for_the_command(tmp_path):
    manager, real = tmp_path / "shims", tmp_path / "bin"
    for folder, line in ((manager, "#!/usr/bin/env bash"), (real, "#!/usr/bin/python3")):
        folder.mkdir()
        (folder / "aws").write_text(f"{line}\n")

    found = AwsRecipe(SHIM).binary_candidates(AwsOwner, (manager, real, tmp_path / "none"))

    assert [each for each in found if tmp_path in each.parents] == [real / "aws", tmp_path / "none/aws"]


class AwsOwner:
    home = "/home/u"
