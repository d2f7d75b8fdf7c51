"""Keys that profiles, .env files, environment.d and direnv set: shown, moved with consent, put back (needs root)."""

import dataclasses
import json

import pytest

from agent_broker.enroll.apply import apply_plan
from agent_broker.enroll.codex import CodexRecipe
from agent_broker.enroll.exported import Exports
from agent_broker.enroll.gemini import GeminiRecipe
from agent_broker.enroll.user_files import UserFiles
from agent_broker.errors import MisuseError
from tests.fakes.enroll_world import ACCESS, OAUTH, UID, URL
from tests.fakes.opened import Opened
from tests.fakes.scan_world import ScanWorld

KEY = "sk-ant-api03-" + "Ex9" * 30 + "-_AA"
OTHER = "sk-ant-api03-" + "Ot3" * 30 + "-_AA"
TOKEN = "sk-ant-oat01-" + "To5" * 31 + "AA"
BASHRC = f"""# ~/.bashrc
export EDITOR=vi
export ANTHROPIC_API_KEY="{KEY}"   # work
alias ll='ls -l'"""
FILES = {
    ".bashrc": BASHRC,
    ".config/fish/config.fish": f"set -gx ANTHROPIC_API_KEY {KEY}\nset -gx EDITOR vi\n",
    ".config/environment.d/10-keys.conf": f"EDITOR=vi\nANTHROPIC_API_KEY={KEY}\n",
    "src/app/.env": f"PORT=8080\r\nANTHROPIC_API_KEY='{KEY}'\r\n",
    "src/app/.envrc": f"layout python\nexport CLAUDE_CODE_OAUTH_TOKEN={TOKEN}\n",
}


@pytest.fixture
def world():
    made = ScanWorld()
    yield made
    made.close()


def agree(world, *, move=True, decoys=()):
    world.recipe = dataclasses.replace(world.recipe, exports=Exports(move, decoys))
    return world


def values(world):
    return {
        value for value in (KEY, OTHER, TOKEN) for facts in world.snapshot().values() if value.encode() in facts.data
    }


def exported(world):
    for path, text in FILES.items():
        world.file(path, text, 0o644)
    return world


@pytest.mark.parametrize("path", [path for path in FILES if not path.endswith(".envrc")])
def test_a_key_that_lies_nowhere_else_becomes_the_agent_s_and_goes_back_byte_for_byte(world, path):
    world.file(path, FILES[path], 0o640)
    before = world.snapshot()
    agree(world).enroll()
    assert values(world) == set()
    after = world.snapshot()[path].data
    lost = [line for line in FILES[path].encode().splitlines(True) if line not in after.splitlines(True)]
    assert len(lost) <= 2  # the key's line; of a last line without an end, its neighbour's end
    assert b"vi" in after or b"PORT" in after
    record = world.store.records[f"claude/{UID}/exported-api-key"]
    assert (record.kind, record.content) == ("anthropic-api-key", KEY.encode())
    world.unenroll()
    assert {name: facts for name, facts in world.snapshot().items() if name == path} == {path: before[path]}
    assert world.journals() == []


def test_all_of_them_at_once(world):
    exported(world)
    before = world.snapshot()
    plan = agree(world).plan()
    assert plan.active == f"claude/{UID}/exported-api-key"
    moved = [row for row in plan.rows if "line removed" in row.will]
    assert len(moved) == len(FILES)
    report = world.enroll()
    assert values(world) == set()
    assert any("log out and in again" in warning for warning in report.warnings + plan.warnings)
    token = json.loads(world.store.records[f"claude/{UID}/exported-oauth-token"].content)
    assert token["accessToken"] == TOKEN
    world.unenroll()
    assert {name: world.snapshot()[name] for name in before} == before


def test_without_consent_they_are_shown_and_stay(world):
    world.make(world.credentials, json.dumps(OAUTH))
    exported(world)
    before = world.snapshot()
    plan = agree(world, move=False).plan()
    assert len(plan.movable) == len(FILES)
    assert f"ANTHROPIC_API_KEY in {world.home}/.bashrc:3" in plan.movable
    assert len([row for row in plan.rows if "stays" in row.will]) == len(FILES)
    assert KEY not in repr(plan)
    world.enroll()
    assert {name: world.snapshot()[name] for name in FILES} == {name: before[name] for name in FILES}
    assert ACCESS.encode() not in world.credentials.read_bytes()


HARD = {
    ".bashrc": 'if true; then\n  export ANTHROPIC_API_KEY="{}"\nfi\n',
    ".zshrc": 'export ANTHROPIC_API_KEY="{}$SUFFIX"\n',
    ".profile": "ANTHROPIC_API_KEY={} other-command\n",
    ".cshrc": "setenv ANTHROPIC_API_KEY {}\n",
    ".bash_profile": "export A=1 ANTHROPIC_API_KEY={}\n",
}


@pytest.mark.parametrize("path", HARD)
def test_a_line_that_is_no_plain_literal_is_named_and_left(world, path):
    world.make(world.credentials, json.dumps(OAUTH))
    world.file(path, HARD[path].format(KEY))
    before = world.snapshot()
    plan = agree(world).plan()
    assert plan.movable == ()
    (warning,) = [each for each in plan.warnings if "ANTHROPIC_API_KEY stays" in each]
    line = 2 if path == ".bashrc" else 1
    assert warning.startswith(f"{world.home}/{path}:{line}: ")
    assert f'"${{EDITOR:-vi}}" +{line} {world.home}/{path}' in warning
    assert KEY not in warning
    world.enroll()
    assert world.snapshot()[path] == before[path]


def test_a_key_that_is_set_for_everybody_is_named_and_stays(world):
    world.make(world.credentials, json.dumps(OAUTH))
    machine = world.root / "etc"
    machine.mkdir()
    environment = machine / "environment"
    environment.write_text(f"PATH=/usr/bin\nANTHROPIC_API_KEY={KEY}\nOPENAI_API_KEY={OTHER}\n")
    world.recipe = dataclasses.replace(world.recipe, exports=Exports(move=True, machine=str(machine)))
    plan = world.plan()
    (warning,) = [each for each in plan.warnings if "for every process of everybody" in each]
    assert warning.startswith(f"{environment}:2: ANTHROPIC_API_KEY is set")
    assert f'sudo "${{EDITOR:-vi}}" +2 {environment}' in warning
    assert KEY not in warning
    world.apply(plan)
    assert KEY in environment.read_text()


def test_two_values_are_kept_and_the_first_is_used(world):
    world.file(".bashrc", f"export ANTHROPIC_API_KEY={KEY}\n")
    world.file("src/.env", f"ANTHROPIC_API_KEY={OTHER}\n")
    before = world.snapshot()
    plan = agree(world).plan()
    assert any("2 values" in warning for warning in plan.warnings)
    world.enroll()
    records = world.store.records
    assert records[f"claude/{UID}/exported-api-key"].content == KEY.encode()
    assert records[f"claude/{UID}/exported-api-key-2"].content == OTHER.encode()
    world.unenroll()
    assert {name: world.snapshot()[name] for name in before} == before


def test_the_owner_s_later_changes_survive(world):
    world.file(".bashrc", FILES[".bashrc"])
    agree(world).enroll()
    changed = world.snapshot()[".bashrc"].data + b"\nexport NEW=1\n"
    world.file(".bashrc", changed)
    world.unenroll()
    back = (world.home / ".bashrc").read_text()
    assert f'export ANTHROPIC_API_KEY="{KEY}"   # work\n' in back
    assert back.endswith("export NEW=1\n")
    assert back.index("EDITOR") < back.index("ANTHROPIC") < back.index("alias")


def test_a_planted_decoy_is_neither_opened_nor_moved(world):
    world.make(world.credentials, json.dumps(OAUTH))
    decoy = world.file("src/.env", f"ANTHROPIC_API_KEY={KEY}\n")
    agree(world, decoys=(str(decoy),))
    with Opened(world.home) as opened:
        plan = world.plan()
        assert ".env" not in opened.names()
    assert plan.movable == ()


def test_a_profile_that_changes_after_the_plan_stops_the_enrolment(world):
    world.file(".bashrc", FILES[".bashrc"])
    plan = agree(world).plan()
    world.file(".bashrc", FILES[".bashrc"] + "\n# new\n")
    before = world.snapshot()
    with pytest.raises(MisuseError, match="changed since the plan"):
        apply_plan(plan, world.site(), injection_url=URL)
    assert world.snapshot() == before


@pytest.mark.parametrize("stop", range(0, 40, 3))
def test_a_failure_at_any_step_puts_everything_back(world, stop):
    exported(world)
    before = world.snapshot()
    count = 0

    def fail_there(_):
        nonlocal count
        count += 1
        if count == stop + 1:
            raise RuntimeError("stopped by the test")

    agree(world)
    try:
        world.enroll(fail_there)
    except RuntimeError:
        assert world.snapshot() == before
        assert world.store.records == {}
    else:
        assert count <= stop


OTHERS = {
    "codex": ("CODEX_API_KEY", "sk-proj-" + "Co4" * 40, ".codex"),
    "gemini": ("GEMINI_API_KEY", "AIza" + "Ge7" * 12, ".gemini"),
}


@pytest.mark.parametrize("agent", OTHERS)
def test_codex_and_gemini_too(world, agent):
    variable, key, folder = OTHERS[agent]
    world.make_folder(world.home / folder)
    world.file(".bashrc", f"export EDITOR=vi\nexport {variable}='{key}'\n")
    before = world.snapshot()
    recipe = {"codex": CodexRecipe, "gemini": GeminiRecipe}[agent]()
    with UserFiles(world.owner) as files:
        left = Exports(move=False)
        with pytest.raises(MisuseError, match="no credential"):
            recipe.with_exports(left).survey(files, world.owner)
        survey = recipe.with_exports(Exports(move=True)).survey(files, world.owner)
    assert survey.active == "exported-api-key"
    assert survey.movable == (f"{variable} in {world.home}/.bashrc:2",)
    (secret,) = [secret for secret in survey.secrets if secret.name == survey.active]
    assert secret.value.reveal() == key.encode()
    assert ".bashrc" in [file.path for file in survey.files]
    assert key not in repr(survey)
    assert world.snapshot() == before
