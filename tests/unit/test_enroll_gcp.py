"""What enrolling Google Cloud makes of the application default credentials."""

import json
import os
from pathlib import Path

import pytest

from agent_broker.enroll.gcp import GcpRecipe
from agent_broker.enroll.tool_plan import make_tool_plan
from agent_broker.errors import MisuseError
from tests.fakes.cloud_logins import ADC, PROJECT, service_account, user_login
from tests.fakes.enroll_world import URL, EnrollWorld

pytestmark = pytest.mark.kernel


class GcpWorld(EnrollWorld):
    """A home with gcloud's folder in it."""

    def __init__(self):
        super().__init__()
        self.recipe = GcpRecipe()
        self.make_folder(self.home / ".config")
        self.make_folder(self.home / ".config/gcloud")
        self.adc = self.home / ADC
        self.binary = self.binary.rename(self.binary.with_name("terraform"))

    def site(self, on_step=lambda _: None):
        return type(super().site())(**{**vars(super().site(on_step)), "tools_dir": self.state / "registry/tools"})

    def plan(self):
        tools = self.site().tools_dir
        shim = Path(os.path.realpath("/usr/bin/true"))
        return make_tool_plan(self.recipe, self.owner, shim=shim, tools_dir=tools, binaries=(self.binary,))


@pytest.fixture
def world():
    made = GcpWorld()
    yield made
    made.close()


@pytest.mark.parametrize("login", [service_account(), {**user_login(), "quota_project_id": PROJECT}])
def test_the_login_moves_and_the_file_names_the_broker(world, login):
    secret = "private_key" if "private_key" in login else "refresh_token"
    world.make(world.adc, json.dumps(login, indent=2))
    before = world.snapshot()

    world.enroll()

    now = json.loads(world.adc.read_text())
    assert now["type"] == "external_account"
    assert (now["token_url"], now["credential_source"]) == (
        f"{URL}/google/token",
        {"url": f"{URL}/google/subject"},
    )
    assert not {"client_id", "client_secret"} & set(now)
    assert now[secret] != login[secret]
    (kept,) = [each for name, each in world.store.records.items() if name.endswith("/adc")]
    assert json.loads(kept.content) == login
    assert kept.attributes["project"] == PROJECT
    assert login[secret] not in json.dumps(kept.attributes)
    world.unenroll()
    assert world.snapshot() == before


@pytest.mark.parametrize(
    ("login", "why"),
    [
        ({"type": "external_account"}, "from another system"),
        ({"type": "impersonated_service_account"}, "by another login"),
        ({"type": "authorized_user", "refresh_token": "1//0x"}, "has no client_id"),
        ({"type": "gdch_service_account"}, "of no kind that is known"),
    ],
)
def test_what_can_not_be_moved_is_refused_with_the_reason(world, login, why):
    world.make(world.adc, json.dumps(login))

    with pytest.raises(MisuseError, match=why):
        world.plan()


def test_no_file_is_no_login(world):
    with pytest.raises(MisuseError, match=r"there is no .*/application_default_credentials\.json"):
        world.plan()


def test_a_native_program_must_keep_its_token_to_itself(world):
    world.make(world.adc, json.dumps(service_account()))
    world.binary = world.binary.rename(world.binary.with_name("cloud-sql-proxy"))

    with pytest.raises(MisuseError, match="no program that is known"):
        world.plan()
