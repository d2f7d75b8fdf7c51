"""``login`` and ``logout`` of a tool, ``ssh add`` and ``ssh remove``: a real home, real sockets, a broker in memory."""

import io
import json
import shutil
import subprocess

import pytest

from agent_broker.cli.main import main
from agent_broker.honeytoken.presented import digest_of
from agent_broker.identity.registry import load_registry
from tests.fakes.control import FakeBroker, ServedBroker
from tests.fakes.enroll_world import UID, EnrollWorld

OLD, NEW, OTHER = "ghp_" + "Old1" * 9, "ghp_" + "New2" * 9, "gl pat é"
GITHUB = f"git/{UID}/github.com"


@pytest.fixture
def run(served: ServedBroker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(*words: str, typed: str = "") -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
        code = main([*words, "--user", str(UID)])
        said = "".join(capsys.readouterr())
        assert not any(secret in said for secret in (OLD, NEW, OTHER))
        return code, said

    return run


@pytest.fixture
def ab(run, home: EnrollWorld):
    shim, program = home.root / "bin/shim", home.root / "bin/git-remote-http"
    for each in (shim, program):
        shutil.copy("/bin/true", each)
    home.make(home.home / ".git-credentials", f"https://alice:{OLD}@github.com\n")
    where = ("--home", str(home.home), "--binary", str(program), "--shim", str(shim), "--yes")
    assert run("enroll", "git", *where)[0] == 0
    return run


def named(served: ServedBroker) -> tuple[str, ...]:
    return load_registry(served.layout.tools_folder)[0].credentials


def login(ab, *words: str, typed: str) -> tuple[int, str]:
    return ab("login", "git", "--from-stdin", *words, typed=typed)


def test_a_password_is_replaced_and_stays_the_same_users(ab, served: ServedBroker, world: FakeBroker) -> None:
    assert login(ab, "--host", "github.com", typed=f"{NEW}\n")[0] == 0

    record, value = world.vault[GITHUB]
    assert (record.version, value) == (2, NEW.encode())
    assert record.attributes == {"destination": "https://github.com", "username": "alice"}
    assert named(served) == (GITHUB,)


def test_a_password_of_another_server_path_or_user_is_a_credential_of_its_own(
    ab, served: ServedBroker, world: FakeBroker
) -> None:
    for words in (("gitlab.com", "bob"), ("https://github.com/alice/web", "alice"), ("github.com", "carol")):
        assert login(ab, "--host", words[0], "--as", words[1], typed=OTHER)[0] == 0

    ids = [f"git/{UID}/{name}" for name in ("gitlab.com", "github.com-alice-web", "github.com-2")]
    assert named(served) == (GITHUB, *ids)
    assert [world.vault[each][0].attributes["destination"] for each in ids] == [
        "https://gitlab.com", "https://github.com/alice/web", "https://github.com",
    ]  # fmt: skip
    assert world.vault[ids[0]][1] == OTHER.encode()
    code, said = login(ab, "--host", "github.com", typed=OTHER)
    assert (code, "--as USER" in said) == (2, True)


def test_logout_deletes_it_and_the_rest_stays(ab, served: ServedBroker, world: FakeBroker) -> None:
    login(ab, "--host", "gitlab.com", "--as", "bob", typed=OTHER)

    code, said = ab("logout", "git", "--host", "gitlab.com", "--yes", "--json")

    assert (code, json.loads(said)) == (0, {"credential": f"git/{UID}/gitlab.com", "removed": True})
    assert (named(served), set(world.vault)) == ((GITHUB,), {GITHUB})
    assert ab("logout", "git", "--host", "gitlab.com", "--yes")[0] == 2


def test_what_was_added_is_named_when_the_enrolment_is_undone(ab, world: FakeBroker, home: EnrollWorld) -> None:
    login(ab, "--host", "gitlab.com", "--as", "bob", typed=OTHER)

    code, said = ab("unenroll", "git", "--yes")

    assert (code, f"git/{UID}/gitlab.com was added later and is in no file" in " ".join(said.split())) == (0, True)
    assert (home.home / ".git-credentials").read_text() == f"https://alice:{OLD}@github.com\n"
    assert world.vault == {}


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (("--host", "gitlab.com", "--as", "bob"), ""),
        (("--host", "gitlab.com", "--as", "bob"), "two\nlines"),
        (("--host", "gitlab.com", "--as", "bob"), "x" * 20_000),
        (("--host", "gitlab.com"), OTHER),
        (("--host", "https://git%2elab.com", "--as", "bob"), OTHER),
        ((), OTHER),
    ],
    ids=["nothing", "lines", "long", "nobody's", "host", "no host"],
)
def test_what_is_no_password_is_misuse_and_changes_nothing(ab, world: FakeBroker, words, typed: str) -> None:
    before = dict(world.vault)

    assert login(ab, *words, typed=typed)[0] == 2

    assert world.vault == before


def test_a_decoy_is_no_password(ab, served: ServedBroker, home: EnrollWorld) -> None:
    decoy = (home.home / ".git-credentials").read_text().split(":")[2].partition("@")[0]
    (tool,) = load_registry(served.layout.tools_folder)
    assert digest_of(decoy) in tool.decoys[0].values_sha256

    assert "decoy" in login(ab, "--host", "github.com", typed=decoy)[1]


def test_a_tool_that_is_not_enrolled_has_no_passwords(ab, world: FakeBroker) -> None:
    code, said = ab("login", "docker", "--host", "ghcr.io", "--as", "a", "--from-stdin", typed=OTHER)

    assert (code, "docker of user id" in said) == (2, True)
    assert set(world.vault) == {GITHUB}


@pytest.fixture
def pnpm(run, home: EnrollWorld):
    shim, program = home.root / "bin/shim", home.root / "bin/pnpm"
    for each in (shim, program):
        shutil.copy("/bin/true", each)
    home.make(home.home / ".npmrc", f"//npm.example.com/team/:_authToken={OLD}\n")
    where = ("--home", str(home.home), "--binary", str(program), "--shim", str(shim), "--yes")
    assert run("enroll", "pnpm", *where)[0] == 0
    return run


TEAM = "npm.example.com-team"


def links(home: EnrollWorld) -> dict[str, str]:
    return {
        each.name.removeprefix(f"pnpm@{UID}."): str(each.readlink())
        for each in (home.root / "bin").iterdir()
        if each.is_symlink()
    }


@pytest.mark.parametrize("host", ["npm.example.com/team", "https://npm.example.com/team/"])
def test_a_registrys_token_is_renewed_and_its_helper_stays(pnpm, world: FakeBroker, home: EnrollWorld, host) -> None:
    before = (home.home / ".npmrc").read_bytes()

    code, said = pnpm("login", "pnpm", "--from-stdin", "--host", host, typed=NEW)

    record, value = world.vault[f"pnpm/{UID}/{TEAM}"]
    assert (code, record.version, value, "tokenHelper" in said) == (0, 2, NEW.encode(), False)
    assert record.attributes == {"destination": "npm://npm.example.com/team", "profile": TEAM}
    assert (home.home / ".npmrc").read_bytes() == before
    assert links(home) == {TEAM: "shim"}


def test_a_new_registry_gets_a_helper_of_its_own_until_the_enrolment_is_undone(
    pnpm, world: FakeBroker, home: EnrollWorld
) -> None:
    code, said = pnpm("login", "pnpm", "--from-stdin", "--host", "http://[::1]:4873", typed=NEW)

    name = "1--4873"
    record, value = world.vault[f"pnpm/{UID}/{name}"]
    link = home.root / f"bin/pnpm@{UID}.{name}"
    assert (code, value) == (0, NEW.encode())
    assert record.attributes == {"destination": "npm://[::1]:4873", "profile": name}
    assert f"//[::1]:4873/:tokenHelper={link}" in "".join(said.split("\n"))
    assert links(home) == {TEAM: "shim", name: "shim"}
    assert pnpm("unenroll", "pnpm", "--yes")[0] == 0
    assert (links(home), world.vault) == ({}, {})


def test_a_helper_is_never_given_to_another_registry(pnpm, world: FakeBroker, home: EnrollWorld) -> None:
    """Its line may still stand in a file of the user's: pnpm would send what it answers to the place in that line."""
    assert pnpm("logout", "pnpm", "--host", "npm.example.com/team", "--yes")[0] == 0
    assert pnpm("login", "pnpm", "--from-stdin", "--host", "npm.example.com-team", typed=NEW)[0] == 0

    (record, _), *others = world.vault.values()
    assert (record.attributes, others) == (
        {"destination": "npm://npm.example.com-team", "profile": f"{TEAM}-2"}, [],
    )  # fmt: skip
    assert links(home) == {TEAM: "shim", f"{TEAM}-2": "shim"}


def test_what_is_in_a_links_place_stays_and_nothing_is_kept(pnpm, world: FakeBroker, home: EnrollWorld) -> None:
    other = home.root / f"bin/pnpm@{UID}.npm.other.example"
    other.write_text("mine")
    before = dict(world.vault)

    code, said = pnpm("login", "pnpm", "--from-stdin", "--host", "npm.other.example", typed=NEW)

    assert (code, "in the way" in said, other.read_text()) == (2, True, "mine")
    assert world.vault == before


@pytest.mark.parametrize("command", ["login", "logout"])
def test_gh_logs_in_and_out_by_itself(run, command: str) -> None:
    code, said = run(command, "gh", "--host", "github.com")

    assert (code, f"as its user: gh auth {command}" in said) == (2, True)


@pytest.fixture
def ssh(run, home: EnrollWorld):
    folder = home.make_folder(home.home / ".ssh")
    for name in ("first", "second"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name], check=True)
        for path in (folder / name, folder / f"{name}.pub"):
            home.make(path, path.read_bytes())
    (folder / "second").rename(home.home / "second")
    (folder / "second.pub").rename(home.home / "second.pub")
    assert run("enroll", "ssh", "--home", str(home.home), "--yes")[0] == 0
    return run


def test_a_key_is_added_once_and_removed_and_its_file_stays(
    ssh, served: ServedBroker, world: FakeBroker, home: EnrollWorld
) -> None:
    file = home.home / "second"
    before = file.read_bytes()
    add = ("ssh", "add", str(file), "--home", str(home.home))

    code, said = ssh(*add, "--json")

    told = json.loads(said)
    shown = subprocess.run(["ssh-keygen", "-lf", f"{file}.pub"], capture_output=True, text=True, check=True).stdout
    assert (code, told["credential"], told["fingerprint"]) == (0, f"ssh/{UID}/second", shown.split()[1])
    assert named(served) == (f"ssh/{UID}/first", f"ssh/{UID}/second")
    assert file.read_bytes() == before
    assert "has this key already" in ssh(*add)[1]

    assert ssh("ssh", "remove", "second", "--yes")[0] == 0
    assert (named(served), set(world.vault)) == ((f"ssh/{UID}/first",), {f"ssh/{UID}/first"})
    assert ssh("ssh", "remove", "second", "--yes")[0] == 2


def test_the_decoy_of_a_key_is_no_key(ssh, world: FakeBroker, home: EnrollWorld) -> None:
    code, said = ssh("ssh", "add", str(home.home / ".ssh/first"), "--home", str(home.home))

    assert (code, "decoy" in said) == (2, True)
    assert set(world.vault) == {f"ssh/{UID}/first"}


def test_a_key_elsewhere_is_not_read(ssh, home: EnrollWorld) -> None:
    assert "not below" in ssh("ssh", "add", "/etc/ssh/ssh_host_ed25519_key", "--home", str(home.home))[1]
