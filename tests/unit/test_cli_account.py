"""``account`` and ``managed`` as commands: a real home, real sockets, a broker in memory."""

import io
import json

import pytest

from agent_broker.cli.main import main
from agent_broker.identity.registry import load_registry
from tests.fakes.control import FakeBroker, ServedBroker
from tests.fakes.enroll_world import UID, EnrollWorld

KEY = "sk-ant-api03-" + "Pr7" * 30
ID = f"claude/{UID}/private/api-key"


@pytest.fixture
def ab(served: ServedBroker, home: EnrollWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(*words: str, key: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(key.encode())))
        code = main([*words, *(("--user", str(UID)) if words[0] != "managed" else ())])
        out, err = capsys.readouterr()
        assert KEY not in out + err
        return code, out, err

    where = ("--home", str(home.home), "--binary", str(home.binary), "--yes")
    assert run("enroll", "claude", "--as", "work", *where)[0] == 0
    return run


def accounts(served: ServedBroker) -> dict[str, tuple[str, ...]]:
    (enrolled,) = load_registry(served.layout.registry_folder)
    return {each.name: each.folders for each in enrolled.accounts}


def test_an_account_is_added_assigned_and_removed(
    ab, served: ServedBroker, world: FakeBroker, home: EnrollWorld
) -> None:
    assert accounts(served) == {"work": ()}
    folder = str(home.home)
    code, out, _ = ab("account", "add", "claude", "private", "--dir", folder, "--json", key=f"{KEY}\n")
    assert (code, json.loads(out)) == (0, {"account": "private", "credential": ID, "folders": [folder], "warnings": []})
    assert world.vault[ID][1] == KEY.encode()
    assert accounts(served) == {"work": (), "private": (folder,)}

    assert ab("account", "assign", "claude", "private")[0] == 0
    assert accounts(served) == {"work": (), "private": ()}

    assert ab("account", "remove", "claude", "private")[0] == 2  # nobody can be asked
    assert ab("account", "remove", "claude", "private", "--yes")[0] == 0
    assert accounts(served) == {"work": ()}
    assert ID not in world.vault


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("add", "claude", "private"), ""),
        (("add", "claude", "private"), "k" * 70_000),
        (("add", "claude", "work"), KEY),
        (("add", "claude", "a/b"), KEY),
        (("add", "claude", "private", "--kind", "password"), KEY),
        (("add", "claude", "private", "--dir", "/nowhere/at/all"), KEY),
        (("add", "codex-of-old", "private"), KEY),
        (("assign", "claude", "other"), ""),
        (("remove", "claude", "work", "--yes"), ""),
    ],
)
def test_what_cannot_be_is_misuse_and_changes_nothing(ab, served: ServedBroker, words, key: str) -> None:
    code, _, err = ab("account", *words, key=key)
    assert (code, accounts(served)) == (2, {"work": ()}), err


def test_enroll_names_no_account_that_cannot_be(ab, served: ServedBroker, home: EnrollWorld) -> None:
    assert ab("enroll", "claude", "--as", "phantom", "--home", str(home.home), "--yes")[0] == 2


def test_managed_settings_are_shown_set_and_put_back(ab, served: ServedBroker) -> None:
    file = served.layout.managed_folder / "managed-settings.json"
    code, out, _ = ab("managed", "set", "--dry-run", "--json")
    plan = json.loads(out)["plan"]
    assert (code, file.exists(), plan["file"], plan["exists"]) == (0, False, str(file), False)
    assert plan["members"]["env.ANTHROPIC_BASE_URL"] == "http://127.0.0.1:917"
    assert plan["members"]["apiKeyHelper"].endswith("agent-broker-shim claude-api-key-helper")
    assert str(UID) in plan["warnings"][0]

    assert ab("managed", "set")[0] == 2  # nobody can be asked
    assert not file.exists()
    assert ab("managed", "set", "--yes")[0] == 0
    assert json.loads(file.read_text())["apiKeyHelper"] == plan["members"]["apiKeyHelper"]
    assert ab("managed", "remove", "--yes")[0] == 0
    assert not file.exists()
