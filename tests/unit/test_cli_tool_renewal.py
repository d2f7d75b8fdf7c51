"""``login`` of aws, kubectl and keyring: another value of what was enrolled, in its place; a broker in memory."""

import io
import json
import shutil

import pytest

from agent_broker.cli.main import main
from agent_broker.identity.registry import load_registry
from tests.fakes import tool_files
from tests.fakes.control import FakeBroker, ServedBroker
from tests.fakes.enroll_world import UID, EnrollWorld

KEY, SECRET, TOKEN = "AKIANEWNEWNEWNEWNEW1", "New1/" + "Aw9" * 9, "token-" + "Nw7" * 9
ROLE = "[profile deploy]\nrole_arn = arn:aws:iam::123456789012:role/deploy\nsource_profile = default\n"
FILES = {
    "aws": {".aws/credentials": tool_files.AWS_CREDENTIALS, ".aws/config": tool_files.AWS_CONFIG + ROLE},
    "kubectl": {".kube/config": tool_files.KUBE_CONFIG, ".kube/erin.token": tool_files.KUBE_TOKENS[1]},
    "keyring": {".config/pip/pip.conf": tool_files.PIP_CONF},
}
PROGRAMS = {"aws": "aws", "kubectl": "kubectl", "keyring": "uv"}


@pytest.fixture
def enrolled(served: ServedBroker, home: EnrollWorld, monkeypatch, capsys):
    """Return a function that enrols a tool, and then a function that runs its ``login``."""

    def run(*words: str, typed: str = "") -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
        code = main([*words, "--user", str(UID)])
        said = "".join(capsys.readouterr())
        assert not any(each in said for each in (SECRET, TOKEN))
        return code, said

    def enroll(tool: str):
        shim, program = home.root / "bin/shim", home.root / "bin" / PROGRAMS[tool]
        for each in (shim, program):
            shutil.copy("/bin/true", each)
        for path, text in FILES[tool].items():
            for folder in reversed([home.home / path, *(home.home / path).parents][1:-1]):
                if home.home in folder.parents and not folder.exists():
                    home.make_folder(folder)
            home.make(home.home / path, text)
        where = ("--home", str(home.home), "--binary", str(program), "--shim", str(shim), "--yes")
        assert run("enroll", tool, *where)[0] == 0
        return lambda *words, typed: run("login", tool, "--from-stdin", *words, typed=typed)

    return enroll


def test_a_profiles_keys_are_renewed_and_what_they_are_for_stays(enrolled, world: FakeBroker) -> None:
    login = enrolled("aws")
    before = dict(world.vault)
    name = f"aws/{UID}/dev"

    code, said = login("--as", "dev", typed=f"{KEY}\n{SECRET}\n")

    record, value = world.vault[name]
    assert (code, "keep the keys that they had: deploy" in said) == (0, True)
    assert json.loads(value) == {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
    assert (record.version, record.attributes) == (2, before[name][0].attributes)
    assert {each: held for each, held in world.vault.items() if each != name} == {
        each: held for each, held in before.items() if each != name
    }


def test_a_clusters_user_gets_another_token_for_the_same_server(enrolled, world: FakeBroker) -> None:
    login = enrolled("kubectl")
    name = f"kubectl/{UID}/erin"
    before = world.vault[name][0].attributes

    assert login("--as", "erin", "--host", "https://first.example:6443", typed=f"{TOKEN}\n")[0] == 0

    record, value = world.vault[name]
    assert (json.loads(value), record.attributes) == ({"token": TOKEN}, before)


def test_an_index_gets_another_password_or_one_more(enrolled, world: FakeBroker, served: ServedBroker) -> None:
    login = enrolled("keyring")
    (first,) = [each for each in world.vault if each.startswith("keyring/")]

    assert login("--host", "https://index.example.com/simple", typed=f"{TOKEN}\n")[0] == 0
    code, said = login("--host", "https://other.example.com/simple", "--as", "bob", typed=f"{SECRET}\n")

    assert world.vault[first][1] == TOKEN.encode()
    assert world.vault[first][0].attributes == {"destination": "https://index.example.com/simple", "username": "ann"}
    assert (code, "https://USER@other.example.com/simple" in said) == (0, True)
    (tool,) = load_registry(served.layout.tools_folder)
    (added,) = set(tool.credentials) - {first}
    assert world.vault[added][0].kind == world.vault[first][0].kind


@pytest.mark.parametrize(
    ("tool", "words", "typed"),
    [
        ("aws", (), f"{KEY}\n{SECRET}"),
        ("aws", ("--as", "production"), f"{KEY}\n{SECRET}"),
        ("aws", ("--as", "dev"), SECRET),
        ("aws", ("--as", "dev"), f"{KEY}\n{SECRET}\n{SECRET}"),
        ("aws", ("--as", "dev"), f"{KEY}\n\n"),
        ("aws", ("--as", "dev"), f"{KEY}\n{'x' * 20_000}"),
        ("kubectl", ("--as", "alice", "--host", "https://second.example:6443"), TOKEN),
        ("kubectl", ("--as", "alice"), ""),
    ],
    ids=["which", "unknown", "one line", "three", "empty", "long", "another server", "nothing"],
)
def test_what_names_nothing_or_is_no_key_is_misuse_and_changes_nothing(
    enrolled, world: FakeBroker, tool: str, words: tuple[str, ...], typed: str
) -> None:
    login = enrolled(tool)
    before = dict(world.vault)

    code, said = login(*words, typed=typed)

    assert (code, world.vault) == (2, before), said


def test_the_decoy_of_a_key_is_no_key(enrolled, world: FakeBroker, home: EnrollWorld) -> None:
    login = enrolled("aws")
    text = (home.home / ".aws/credentials").read_text()
    decoy = next(line.split("=")[1].strip() for line in text.splitlines() if "secret_access_key" in line)

    code, said = login("--as", "dev", typed=f"{KEY}\n{decoy}\n")

    assert (code, decoy in said) == (2, False)
