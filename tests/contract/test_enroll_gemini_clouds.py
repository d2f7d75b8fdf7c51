"""Gemini at Vertex AI: which credential is moved, what lies in its place, what is refused (needs root)."""

import json
import shutil

import pytest

from agent_broker.enroll.exported import Exports
from agent_broker.enroll.gemini import GeminiRecipe
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import load_registry
from tests.fakes.cloud_logins import ADC, PROJECT, service_account, user_login
from tests.fakes.enroll_world import UID, URL, EnrollWorld

PHANTOM_OF_THE_FAKE = "abp-"
GEMINI = {"GOOGLE_CLOUD_PROJECT": PROJECT, "GOOGLE_CLOUD_LOCATION": "us-central1"}


@pytest.fixture
def world():
    world = EnrollWorld()
    package = world.root / "node_modules/@google/gemini-cli"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"name": "@google/gemini-cli", "version": "0.61.0"}')
    world.binary = package / "gemini.js"
    world.binary.write_text(f"#!{shutil.which('node')}\n")
    world.binary.chmod(0o755)
    yield world
    world.close()


def put(world, path, text):
    folder = world.home
    for part in path.split("/")[:-1]:
        folder /= part
        if not folder.exists():
            world.make_folder(folder)
    return world.make(world.home / path, text)


def logged_in(world, env, *, selected="vertex-ai", move=True):
    world.recipe = GeminiRecipe(system_settings=world.root / "system.json", exports=Exports(move))
    settings = {"security": {"auth": {"selectedType": selected}}} if selected else {}
    put(world, ".gemini/settings.json", json.dumps(settings))
    put(world, ".gemini/.env", "# mine\n" + "".join(f"{name}={value}\n" for name, value in env.items()))


@pytest.mark.parametrize("selected", ["vertex-ai", ""])
@pytest.mark.parametrize(("make", "kind"), [(user_login, "google-adc"), (service_account, "google-service-account")])
def test_gemini_at_vertex(world, make, kind, selected):
    logged_in(world, {**GEMINI, "GOOGLE_GENAI_USE_VERTEXAI": "true"}, selected=selected)
    login = make()
    put(world, ADC, json.dumps(login))
    before = world.snapshot()
    plan = world.plan()
    assert plan.active == f"gemini/{UID}/google-adc"
    world.apply(plan)
    stored = world.store.records[f"gemini/{UID}/google-adc"]
    assert (stored.kind, json.loads(stored.content)) == (kind, login)
    assert stored.attributes == {"project": PROJECT, "regions": "us-central1"}
    now = (world.home / ".gemini/.env").read_text()
    assert f"GOOGLE_API_KEY={PHANTOM_OF_THE_FAKE}" in now
    assert f"GOOGLE_VERTEX_BASE_URL={URL}\n" in now
    settings = json.loads((world.home / ".gemini/settings.json").read_text())
    assert settings["security"]["auth"] == {"selectedType": "vertex-ai"}
    (enrolled,) = load_registry(world.site().registry_dir)
    assert f"{world.home}/{ADC}" in [each.path for each in enrolled.decoys]
    world.unenroll()
    assert world.snapshot() == before


def test_gemini_s_api_key_for_vertex(world):
    key = "AIza" + "Kq7x" * 8
    logged_in(world, {"GOOGLE_API_KEY": key})
    before = world.snapshot()
    world.apply(world.plan())
    assert world.store.records[f"gemini/{UID}/vertex-api-key"].content == key.encode()
    assert not [path for path, facts in world.snapshot().items() if key.encode() in facts.data]
    world.unenroll()
    assert world.snapshot() == before


def test_gemini_without_a_location_or_consent_is_refused(world):
    put(world, ADC, json.dumps(user_login()))
    logged_in(world, {"GOOGLE_CLOUD_PROJECT": PROJECT})
    with pytest.raises(MisuseError, match="does not say where"):
        world.plan()
    logged_in(world, GEMINI, move=False)
    with pytest.raises(MisuseError, match="read too"):
        world.plan()
