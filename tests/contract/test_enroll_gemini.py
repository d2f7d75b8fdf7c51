"""What Gemini's files may hold, which credential counts, and that all of it comes back (needs root)."""

import json
import os
import shutil
import subprocess

import pytest

from agent_broker.enroll.gemini import GeminiRecipe
from agent_broker.enroll.gemini_keychain import GeminiKeychain, SealedFileError, new_file
from agent_broker.errors import MisuseError
from agent_broker.honeytoken.presented import digest_of
from agent_broker.identity.registry import load_registry
from tests.fakes.enroll_world import UID, URL, EnrollWorld

KEY = "AIza" + "Kq7_" * 8 + "xyz"
STORED_KEY = "AIza" + "Pz4-" * 8 + "abc"
ACCESS = "ya29.a0" + "Ac9" * 40
REFRESH = "1//03" + "Rf2" * 30
LOGIN = {
    "access_token": ACCESS,
    "scope": "https://www.googleapis.com/auth/cloud-platform",
    "token_type": "Bearer",
    "id_token": "head.claims.signature",
    "refresh_token": REFRESH,
    "expiry_date": 1795000000000,
}
BY_KEY = {"security": {"auth": {"selectedType": "gemini-api-key"}}, "ui": {"theme": "Default"}}
BY_LOGIN = {"security": {"auth": {"selectedType": "oauth-personal"}}}
SECRETS = tuple(value.encode() for value in (KEY, STORED_KEY, ACCESS, REFRESH))
_NODE_KEYCHAIN = """
const crypto = require("crypto"), fs = require("fs");
const key = crypto.scryptSync("gemini-cli-oauth", process.argv[3], 32), path = process.argv[2];
const [iv, tag, text] = fs.readFileSync(path, "utf8").split(":").map((part) => Buffer.from(part, "hex"));
const decipher = crypto.createDecipheriv("aes-256-gcm", key, iv, {authTagLength: 16});
decipher.setAuthTag(tag);
process.stdout.write(decipher.update(text, null, "utf8") + decipher.final("utf8"));
"""


@pytest.fixture
def world():
    world = EnrollWorld()
    world.recipe = GeminiRecipe(system_settings=world.root / "system.json")
    world.gemini = world.make_folder(world.home / ".gemini")
    world.env, world.settings = world.gemini / ".env", world.gemini / "settings.json"
    world.login, world.keychain = world.gemini / "oauth_creds.json", world.gemini / "gemini-credentials.json"
    package = world.root / "node_modules/@google/gemini-cli"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"name": "@google/gemini-cli", "version": "0.61.0"}')
    world.binary = package / "gemini.js"
    world.binary.write_text(f"#!{shutil.which('node')}\n")
    world.binary.chmod(0o755)
    yield world
    world.close()


def names(world):
    return {"host": os.uname().nodename, "user": world.owner.name}


def env_of(world):
    """Return the variables as a shell that is given the file has them."""
    script = 'set -a; . "$1"; env -0'
    command = ["/bin/sh", "-c", script, "sh", str(world.env)]
    said = subprocess.run(command, env={}, capture_output=True, text=True, check=True).stdout
    found = dict(entry.split("=", 1) for entry in said.split("\0") if entry)
    return {name: value for name, value in found.items() if name not in {"PWD", "OLDPWD", "SHLVL", "_"}}


def phantom(world):
    return world.store.records[f"gemini/{UID}/phantom"].content.decode()


def test_a_key_in_the_variables_is_wired_and_comes_back_byte_for_byte(world):
    world.make(world.env, f"# mine\nexport EDITOR=vi\nGEMINI_API_KEY='{KEY}'  # the key\n")
    world.make(world.settings, json.dumps(BY_KEY, indent=1))
    before = world.snapshot()
    world.enroll()
    assert env_of(world) == {"EDITOR": "vi", "GEMINI_API_KEY": phantom(world), "GOOGLE_GEMINI_BASE_URL": URL}
    assert json.loads(world.settings.read_text()) == {**BY_KEY, "advanced": {"ignoreLocalEnv": True}}
    assert not [value for value in SECRETS for facts in world.snapshot().values() if value in facts.data]
    assert world.store.records[f"gemini/{UID}/api-key"].content == KEY.encode()
    world.unenroll()
    assert world.snapshot() == before
    assert world.store.records == {}


def test_a_google_login_is_wired_and_comes_back_byte_for_byte(world):
    world.make(world.login, json.dumps(LOGIN))
    world.make(world.settings, json.dumps(BY_LOGIN))
    before = world.snapshot()
    world.enroll()
    assert env_of(world) == {
        "GOOGLE_CLOUD_ACCESS_TOKEN": phantom(world),
        "GOOGLE_GENAI_USE_GCA": "true",
        "CODE_ASSIST_ENDPOINT": URL,
    }
    decoy = json.loads(world.login.read_text())
    assert set(decoy) == set(LOGIN)
    assert decoy["expiry_date"] == 4102444800000
    assert decoy["access_token"].startswith("ya29.")
    assert decoy["refresh_token"].startswith("1//")
    assert not {decoy[name] for name in ("access_token", "refresh_token", "id_token")} & set(LOGIN.values())
    stored = world.store.records[f"gemini/{UID}/oauth"]
    assert (stored.kind, json.loads(stored.content)) == ("google-oauth", LOGIN)
    (enrolled,) = load_registry(world.site().registry_dir)
    known = {each.path: set(each.values_sha256) for each in enrolled.decoys}
    tokens = [decoy[name] for name in ("access_token", "refresh_token", "id_token")]
    assert known == {str(world.login): {digest_of(value) for value in tokens}}
    world.unenroll()
    assert world.snapshot() == before


def test_a_login_that_the_broker_refreshed_comes_back_as_it_is_now(world):
    world.make(world.login, json.dumps(LOGIN))
    world.make(world.settings, json.dumps(BY_LOGIN))
    world.enroll()
    now = {**LOGIN, "access_token": "ya29.newer", "expiry_date": 1799000000000}
    world.store.records[f"gemini/{UID}/oauth"].content = json.dumps(now).encode()
    world.unenroll()
    assert json.loads(world.login.read_text()) == now


def stored_with(world, key=STORED_KEY):
    """Return Gemini's own file with a key, and with another service's secret in it."""
    keychain = GeminiKeychain(new_file(key, **names(world)), **names(world))
    keychain.services["another-service"] = {"main": "stays"}
    return keychain.with_api_key(key)


def test_a_stored_key_is_opened_moved_and_comes_back_byte_for_byte(world):
    world.make(world.keychain, stored_with(world))
    world.make(world.settings, json.dumps(BY_KEY))
    before = world.snapshot()
    plan = world.plan()
    assert plan.active == f"gemini/{UID}/stored-api-key"
    world.enroll()
    decoy = GeminiKeychain(world.keychain.read_bytes(), **names(world))
    assert decoy.api_key() not in {STORED_KEY, None, phantom(world)}
    assert decoy.services["another-service"] == {"main": "stays"}
    assert world.store.records[f"gemini/{UID}/stored-api-key"].content == STORED_KEY.encode()
    (enrolled,) = load_registry(world.site().registry_dir)
    assert {each.path for each in enrolled.decoys} == {str(world.keychain), str(world.login)}
    assert digest_of(decoy.api_key()) in {digest for each in enrolled.decoys for digest in each.values_sha256}
    world.unenroll()
    assert world.snapshot() == before


def test_node_opens_what_is_sealed_here(world):
    path = world.root / "sealed"
    path.write_bytes(stored_with(world))
    salt = f"{names(world)['host']}-{names(world)['user']}-gemini-cli"
    script = world.root / "open.js"
    script.write_text(_NODE_KEYCHAIN)
    said = subprocess.run(["node", script, path, salt], capture_output=True, text=True, check=True).stdout
    services = json.loads(said)
    entry = json.loads(services["gemini-cli-api-key"]["default-api-key"])
    assert entry["token"] == {"accessToken": STORED_KEY, "tokenType": "ApiKey"}


@pytest.mark.parametrize("data", [b"", b"a:b", b"zz:zz:zz", b"00:00:00", b"0" * 24 + b":" + b"0" * 32 + b":00"])
def test_a_file_that_gemini_did_not_write_is_left_and_named(world, data):
    with pytest.raises(SealedFileError):
        GeminiKeychain(data, **names(world))
    world.make(world.keychain, data)
    world.make(world.env, f"GEMINI_API_KEY={KEY}\n")
    assert any("gemini-credentials.json" in warning for warning in world.plan().warnings)
    world.enroll()
    assert world.keychain.read_bytes() == data


@pytest.mark.parametrize(
    ("settings", "env", "login", "active"),
    [
        ({}, f"GEMINI_API_KEY={KEY}\n", True, "api-key"),
        ({}, "", True, "oauth"),
        ({}, "GOOGLE_GENAI_USE_GCA=true\n", True, "oauth"),
        (BY_LOGIN, f"GEMINI_API_KEY={KEY}\n", True, "oauth"),
        (BY_KEY, f"GEMINI_API_KEY={KEY}\n", True, "api-key"),
    ],
)
def test_gemini_s_own_choice_is_followed_and_said(world, settings, env, login, active):
    world.make(world.settings, json.dumps(settings))
    world.make(world.env, env)
    if login:
        world.make(world.login, json.dumps(LOGIN))
    before = world.snapshot()
    assert world.plan().active == f"gemini/{UID}/{active}"
    world.enroll()
    way = "oauth-personal" if active == "oauth" else "gemini-api-key"
    assert json.loads(world.settings.read_text())["security"]["auth"]["selectedType"] == way
    assert not [value for value in SECRETS for facts in world.snapshot().values() if value in facts.data]
    world.unenroll()
    assert world.snapshot() == before


@pytest.mark.parametrize(
    ("settings", "env", "said"),
    [
        ({}, "", "no credential"),
        (BY_LOGIN, f"GEMINI_API_KEY={KEY}\n", "no credential"),
        ({"security": {"auth": {"selectedType": "vertex-ai"}}}, f"GEMINI_API_KEY={KEY}\n", "Vertex AI"),
        ({}, f"GOOGLE_GENAI_USE_VERTEXAI=true\nGEMINI_API_KEY={KEY}\n", "Vertex AI"),
        ({"selectedAuthType": "gemini-api-key"}, f"GEMINI_API_KEY={KEY}\n", "older version"),
        ({"security": "x"}, f"GEMINI_API_KEY={KEY}\n", "not an object"),
    ],
)
def test_what_can_not_be_enrolled_is_refused_with_the_reason_and_nothing_is_touched(world, settings, env, said):
    world.make(world.settings, json.dumps(settings))
    world.make(world.env, env)
    before = world.snapshot()
    with pytest.raises(MisuseError, match=said) as refused:
        world.enroll()
    assert refused.value.next_step
    assert KEY not in refused.value.explain()
    assert world.snapshot() == before


def test_what_would_lead_past_the_broker_is_named(world):
    world.make(world.env, f"GEMINI_API_KEY={KEY}\nGOOGLE_API_KEY=another-credential\n")
    world.make(world.settings, json.dumps({**BY_KEY, "advanced": {"ignoreLocalEnv": False}}))
    world.make(world.home / ".bashrc", f"export GEMINI_API_KEY={KEY}\n")
    (world.root / "system.json").write_text('{"security": {"auth": {"enforcedType": "vertex-ai"}}}')
    warnings = world.plan().warnings
    for part in ("GOOGLE_API_KEY", "ignoreLocalEnv off", ".gemini/.env hides", ".bashrc:1", "system.json"):
        assert any(part in warning for warning in warnings), part
    assert not any(KEY in warning or "another-credential" in warning for warning in warnings)


def test_the_enrolment_names_interpreter_script_and_package(world):
    world.make(world.env, f"GEMINI_API_KEY={KEY}\n")
    world.enroll()
    (enrolled,) = load_registry(world.site().registry_dir)
    (binary,) = enrolled.binaries
    assert binary.path == os.path.realpath(shutil.which("node"))
    assert binary.script.path == str(world.binary)
    assert binary.script.bundle.files == 2
