"""What Codex's files may hold, which credential counts, and that all of it comes back (needs root)."""

import base64
import json
import tomllib

import pytest

from agent_broker.enroll.codex import CodexRecipe
from agent_broker.enroll.exported import Exports
from agent_broker.errors import MisuseError
from agent_broker.honeytoken.presented import digest_of
from agent_broker.identity.registry import load_registry
from tests.fakes.enroll_world import UID, URL, EnrollWorld

KEY = "sk-proj-" + "kQ7_" * 18 + "T3BlbkFJ" + "Zx9-" * 18
REFRESH = "rt_" + "Rr5" * 30


def jwt(**claims):
    """Make up a JWT as OpenAI's login server gives them."""
    parts = ({"alg": "RS256", "typ": "JWT"}, claims)
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join((*texts, "sIgNaTuRe-" * 9))


ID_TOKEN = jwt(email="me@example.com", exp=1795000000, **{"https://api.openai.com/auth": {"chatgpt_plan_type": "pro"}})
ACCESS = jwt(sub="user-1", exp=1795000000, iat=1794000000)
TOKENS = {"id_token": ID_TOKEN, "access_token": ACCESS, "refresh_token": REFRESH, "account_id": "acc-1"}
BY_KEY = {"auth_mode": "apikey", "OPENAI_API_KEY": KEY}
BY_LOGIN = {"auth_mode": "chatgpt", "OPENAI_API_KEY": None, "tokens": TOKENS, "last_refresh": "2026-11-20T08:00:00Z"}
CONFIG = """\
# my settings
model = "gpt-6"   # the good one
approval_policy = 'on-request'

[mcp_servers.files]
command = "true"
args = [ "a",
         "b" ]

[projects."/w"]
trust_level = "trusted"
"""


@pytest.fixture
def world():
    world = EnrollWorld()
    world.recipe = CodexRecipe(system_folder=world.root / "etc-codex")
    world.codex = world.make_folder(world.home / ".codex")
    world.auth, world.settings = world.codex / "auth.json", world.codex / "config.toml"
    yield world
    world.close()


def home_with(world, auth, config=CONFIG):
    world.make(world.auth, json.dumps(auth, indent=2))
    if config is not None:
        world.make(world.settings, config, mode=0o644)
    return world.snapshot()


def wired(world):
    return tomllib.loads(world.settings.read_text())


@pytest.mark.parametrize("config", [CONFIG, None, "", CONFIG.replace("\n", "\r\n"), CONFIG.rstrip("\n")])
@pytest.mark.parametrize("auth", [BY_KEY, BY_LOGIN], ids=["key", "login"])
def test_a_home_is_wired_and_comes_back_byte_for_byte(world, auth, config):
    before = home_with(world, auth, config)
    world.enroll()
    phantom = world.store.records[f"codex/{UID}/phantom"].content.decode()
    after = wired(world)
    assert after.pop("model_provider") == "agent-broker"
    assert after.pop("model_providers") == {
        "agent-broker": {
            "name": "OpenAI",
            "base_url": URL + ("/v1" if auth is BY_KEY else "/backend-api/codex"),
            "wire_api": "responses",
            "experimental_bearer_token": phantom,
        }
    }
    assert after == tomllib.loads(config or "")
    secrets = [value.encode() for value in (KEY, ID_TOKEN, ACCESS, REFRESH)]
    assert not [value for value in secrets for facts in world.snapshot().values() if value in facts.data]
    world.unenroll()
    assert world.snapshot() == before
    assert world.store.records == {}


def test_comments_and_order_of_the_settings_stay(world):
    home_with(world, BY_KEY)
    world.enroll()
    lines = world.settings.read_text().splitlines()
    kept = [line for line in lines if line in CONFIG.splitlines()]
    assert [line for line in kept if line] == [line for line in CONFIG.splitlines() if line]


@pytest.mark.parametrize(
    ("auth", "active", "kinds"),
    [
        (BY_KEY, "api-key", {"api-key": "openai-api-key"}),
        (BY_LOGIN, "oauth", {"oauth": "openai-oauth"}),
        ({**BY_LOGIN, "OPENAI_API_KEY": KEY}, "oauth", {"api-key": "openai-api-key", "oauth": "openai-oauth"}),
        ({"OPENAI_API_KEY": KEY}, "api-key", {"api-key": "openai-api-key"}),
        ({"tokens": TOKENS}, "oauth", {"oauth": "openai-oauth"}),
    ],
)
def test_codex_s_own_choice_is_followed_and_every_secret_moves(world, auth, active, kinds):
    home_with(world, auth)
    plan = world.plan()
    assert plan.active == f"codex/{UID}/{active}"
    assert {each.id.rpartition("/")[2]: each.kind for each in plan.credentials} == kinds
    world.enroll()
    for name, value in (("api-key", KEY.encode()), ("oauth", TOKENS)):
        if name in kinds:
            stored = world.store.records[f"codex/{UID}/{name}"]
            assert (json.loads(stored.content) if name == "oauth" else stored.content) == value
            assert stored.attributes == ({"account_id": "acc-1"} if name == "oauth" else {})


def claims_of(token):
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


def test_the_decoys_have_the_shape_that_codex_wants_and_are_known_by_digest(world):
    home_with(world, BY_LOGIN)
    world.enroll()
    auth = json.loads(world.auth.read_text())
    assert auth["auth_mode"] == "apikey"
    tokens = auth["tokens"]
    assert tokens["account_id"] == "acc-1"
    assert claims_of(tokens["id_token"]) == {**claims_of(ID_TOKEN), "exp": 4102444800}
    assert claims_of(tokens["access_token"]) == {**claims_of(ACCESS), "exp": 4102444800}
    assert len({tokens["access_token"], ACCESS, tokens["id_token"], ID_TOKEN}) == 4
    assert tokens["refresh_token"].startswith("rt_")
    assert len(tokens["refresh_token"]) == len(REFRESH)
    assert auth["OPENAI_API_KEY"].startswith("sk-proj-")
    (enrolled,) = load_registry(world.site().registry_dir)
    (decoy,) = enrolled.decoys
    assert decoy.path == str(world.auth)
    values = [auth["OPENAI_API_KEY"], *(tokens[name] for name in ("id_token", "access_token", "refresh_token"))]
    assert set(decoy.values_sha256) == {digest_of(value) for value in values}


def test_a_login_that_the_broker_refreshed_comes_back_as_it_is_now(world):
    home_with(world, BY_LOGIN)
    world.enroll()
    now = {**TOKENS, "access_token": jwt(sub="user-1", exp=1799000000), "refresh_token": "rt_newer"}
    world.store.records[f"codex/{UID}/oauth"].content = json.dumps(now).encode()
    world.unenroll()
    assert json.loads(world.auth.read_text()) == {**BY_LOGIN, "tokens": now}


def test_what_codex_wrote_meanwhile_stays(world):
    home_with(world, BY_KEY)
    world.enroll()
    world.make(world.settings, world.settings.read_text() + '\n[projects."/new"]\ntrust_level = "trusted"\n')
    world.unenroll()
    after = wired(world)
    assert after == {**tomllib.loads(CONFIG), "projects": {name: {"trust_level": "trusted"} for name in ("/w", "/new")}}
    assert "# my settings" in world.settings.read_text()
    assert json.loads(world.auth.read_text()) == BY_KEY


@pytest.mark.parametrize(
    ("auth", "config", "said"),
    [
        ({}, CONFIG, "no credential"),
        ({"auth_mode": "chatgpt", "OPENAI_API_KEY": KEY}, CONFIG, "no credential"),
        (BY_KEY, 'model_provider = "azure"\n', "not OpenAI's own"),
        (BY_KEY, '[model_providers.agent-broker]\nname = "x"\n', "agent-broker already"),
        ({"auth_mode": "agentIdentity", "agent_identity": "x"}, CONFIG, "auth_mode"),
        ({}, 'cli_auth_credentials_store = "keyring"\n', "keyring"),
        (BY_KEY, "model = \n", "config.toml"),
        ({**BY_KEY, "tokens": "x"}, CONFIG, "not an object"),
    ],
)
def test_what_can_not_be_enrolled_is_refused_with_the_reason_and_nothing_is_touched(world, auth, config, said):
    before = home_with(world, auth, config)
    with pytest.raises(MisuseError, match=said) as refused:
        world.enroll()
    assert refused.value.next_step
    assert KEY not in refused.value.explain()
    assert world.snapshot() == before
    assert world.store.records == {}


def test_what_would_lead_past_the_broker_is_named(world):
    system = world.recipe.system_folder
    system.mkdir()
    (system / "managed_config.toml").write_text('model_provider = "x"\n')
    home_with(
        world,
        BY_KEY,
        'openai_base_url = "https://gateway.example/v1"\n[profiles.work]\nmodel_provider = "azure"\n'
        '[model_providers.other]\nname = "o"\nexperimental_bearer_token = "their-own-token"\n',
    )
    world.make(world.home / ".bashrc", f"export CODEX_API_KEY={KEY}\nexport CODEX_HOME=/x\n")
    warnings = world.plan().warnings
    for part in (
        "openai_base_url",
        "profile 'work'",
        "provider 'other' stays",
        ".bashrc:1: CODEX_API_KEY",
        ".bashrc:2: CODEX_HOME",
        "managed_config.toml",
    ):
        assert any(part in warning for warning in warnings), part
    assert not any(KEY in warning or "their-own-token" in warning for warning in warnings)


ENV_KEY, OTHERS_KEY = "sk-proj-" + "eV4_" * 37, "sk-proj-" + "cX5_" * 37
DOTENV = f"# keys\nOPENAI_API_KEY='{ENV_KEY}'  # work\nCODEX_API_KEY={OTHERS_KEY}\n\nPORT=80 # mine\n"


def with_profiles(world, *, move=True):
    world.recipe = CodexRecipe(system_folder=world.root / "etc-codex", exports=Exports(move=move))
    return world


def test_keys_of_its_own_env_file_move_with_consent_and_come_back(world):
    world.make(world.codex / ".env", DOTENV, mode=0o640)
    before = home_with(world, BY_KEY)
    plan = with_profiles(world).plan()
    assert plan.active == f"codex/{UID}/api-key"
    assert {
        f"{name} in {world.codex}/.env:{line}" for name, line in (("OPENAI_API_KEY", 2), ("CODEX_API_KEY", 3))
    } == set(plan.movable)
    world.apply(plan)
    assert (world.codex / ".env").read_text() == "# keys\n\nPORT=80 # mine\n"
    kept = {world.store.records[f"codex/{UID}/{name}"].content for name in ("dotenv-api-key", "exported-api-key")}
    assert kept == {ENV_KEY.encode(), OTHERS_KEY.encode()}
    world.unenroll()
    assert world.snapshot() == before


def test_keys_of_its_own_env_file_are_shown_without_consent_and_stay(world):
    world.make(world.codex / ".env", DOTENV)
    home_with(world, BY_KEY)
    plan = with_profiles(world, move=False).plan()
    assert len(plan.movable) == 2
    world.apply(plan)
    assert (world.codex / ".env").read_text() == DOTENV


@pytest.mark.parametrize("auth", [None, {"auth_mode": "apikey", "OPENAI_API_KEY": None}])
def test_a_key_of_its_own_env_file_is_used_if_there_is_no_other(world, auth):
    world.make(world.codex / ".env", DOTENV)
    before = world.snapshot() if auth is None else home_with(world, auth)
    with_profiles(world)
    assert world.plan().active == f"codex/{UID}/dotenv-api-key"
    world.enroll()
    world.unenroll()
    assert world.snapshot() == before


def test_a_key_of_another_provider_stays(world):
    text = DOTENV.replace("CODEX_", "MISTRAL_")
    world.make(world.codex / ".env", text)
    with_profiles(world).enroll()
    assert (world.codex / ".env").read_text() == text.replace(text.splitlines(keepends=True)[1], "")


def test_another_file_with_the_same_variable_stays(world):
    """Codex reads OPENAI_API_KEY from nowhere else; other programs do."""
    home_with(world, BY_KEY)
    world.make(world.home / ".bashrc", f"export OPENAI_API_KEY={ENV_KEY}\n")
    plan = with_profiles(world).plan()
    assert plan.movable == ()
    world.apply(plan)
    assert ENV_KEY in (world.home / ".bashrc").read_text()
