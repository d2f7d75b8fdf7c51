"""What enrolling Azure's service principals makes of ~/.azure, and the way back."""

import json

import pytest

from agent_broker.enroll.azure import AzureRecipe
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import load_registry
from tests.fakes.aws_world import SHIM, AwsWorld
from tests.fakes.certificates import certificate_and_key

pytestmark = pytest.mark.kernel

A, B = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
SECRET, OTHER = "abc8Q~secret-of-the-first-one", "xyz8Q~secret-of-the-other-one"


class AzureWorld(AwsWorld):
    """The same, for Azure."""

    def __init__(self):
        super().__init__()
        self.recipe = AzureRecipe(SHIM)
        self.azure = self.make_folder(self.home / ".azure")

    def write(self, *entries, text=None):
        self.make(self.azure / "service_principal_entries.json", json.dumps(entries) if text is None else text)

    def entries(self):
        return json.loads((self.azure / "service_principal_entries.json").read_text())

    def stored(self):
        kept = self.store.records.items()
        return {name.rpartition("/")[2]: each for name, each in kept if each.kind == "azure-service-principal"}


def entry(client=A, tenant="one.example", secret=SECRET, **more):
    return {"client_id": client, "tenant": tenant, "client_secret": secret, **more}


@pytest.fixture
def world():
    made = AzureWorld()
    yield made
    made.close()


ODD = f'[ {{"tenant":\t"one.example", "x": [1], "client_id": "{A}",\r\n"client_secret":"{SECRET}"}}]'


@pytest.mark.parametrize("text", [None, ODD])
def test_a_secret_moves_and_all_else_in_its_file_stays(world, text):
    world.write(entry(), text=text)
    before = world.snapshot()

    world.enroll()

    (held,) = world.entries()
    assert (held["client_id"], held["tenant"]) == (A, "one.example")
    assert held["client_secret"] not in {SECRET, ""}
    raw = (world.azure / "service_principal_entries.json").read_bytes()
    assert (
        raw.replace(held["client_secret"].encode(), SECRET.encode())
        == before[".azure/service_principal_entries.json"].data
    )
    kept = world.stored()
    assert set(kept) == {"default", "one.example"}
    assert json.loads(kept["default"].content) == {"client_id": A, "tenant": "one.example", "client_secret": SECRET}
    assert kept["default"].attributes == {"modes": "mint", "profile": "default"}
    (enrolled,) = load_registry(world.site().tools_dir)
    assert [each.shared for each in enrolled.decoys] == [True]
    world.unenroll()
    assert world.snapshot() == before


@pytest.mark.parametrize("default", [A, B, "somebody@example.com", None])
def test_the_login_of_azs_default_subscription_is_the_default(world, default):
    world.write(entry(), entry(B, "two.example", OTHER))
    if default is not None:
        profile = {"subscriptions": [{"isDefault": False}, {"isDefault": True, "user": {"name": default}}]}
        world.make(world.azure / "azureProfile.json", "\ufeff" + json.dumps(profile))

    plan = world.plan()
    world.apply(plan)

    tenants = {name: json.loads(each.content)["client_id"] for name, each in world.stored().items()}
    expected = {"one.example": A, "two.example": B, **({"default": default} if default in {A, B} else {})}
    assert tenants == expected
    assert any("must name a tenant" in each for each in plan.warnings) == ("default" not in expected)


def test_a_certificates_key_moves_out_of_its_own_file(world):
    certificate, key = certificate_and_key()
    world.make(world.azure / "sp.pem", key + certificate, mode=0o400)
    world.write({"client_id": A, "tenant": "one.example", "certificate": str(world.azure / "sp.pem")})
    before = world.snapshot()

    world.enroll()

    now = (world.azure / "sp.pem").read_text()
    assert certificate in now
    assert key not in now
    assert now.startswith("-----BEGIN PRIVATE KEY-----")
    assert json.loads(world.stored()["default"].content)["certificate"] == key + certificate
    world.unenroll()
    assert world.snapshot() == before


@pytest.mark.parametrize(
    ("entries", "text", "complaint"),
    [
        ([], None, "holds no service principal"),
        ([entry(), entry(B)], None, "shares the tenant"),
        ([entry(tenant="../x")], None, "form of one"),
        ([entry(tenant="default")], None, "form of one"),
        ([entry(secret="")], None, "without a secret"),
        ([entry(secret="", certificate="/etc/x.pem")], None, "outside of the home"),
        ([entry(secret="", certificate="HOME/.azure/none.pem")], None, "no PEM file"),
        ([entry(secret="", certificate="HOME/x", use_cert_sn_issuer=True)], None, "chain"),
        ([entry(x=SECRET)], None, "exactly once"),
        ((), "{", "azure-cli 2.30"),
        ((), '[{"servicePrincipalId": "x"}]', "azure-cli 2.30"),
    ],
)
def test_what_can_t_be_moved_is_said_before_anything_is_touched(world, entries, text, complaint):
    home = str(world.home)
    filled = [{key: str(value).replace("HOME", home) if key == "certificate" else value for key, value in each.items()}
              for each in entries]  # fmt: skip
    world.write(*filled, text=text)
    before = world.snapshot()

    with pytest.raises(MisuseError, match=complaint):
        world.plan()

    assert world.snapshot() == before
    assert not world.store.records
