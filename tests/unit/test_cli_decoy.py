"""``decoy`` as a command: a real home, real sockets, a broker in memory (needs root)."""

import io
import json
import os
import pwd
import subprocess
import sys

import pytest

from agent_broker.cli.main import main
from agent_broker.cli.terminal import below_home
from agent_broker.identity.planted import load_planted
from tests.fakes.control import FakeBroker, ServedBroker
from tests.fakes.plant_world import UID, PlantWorld


@pytest.fixture
def home():
    made = PlantWorld()
    yield made
    made.close()


@pytest.fixture
def world():
    return FakeBroker()


@pytest.fixture
def served(world, home, monkeypatch):
    monkeypatch.setenv("AGENT_BROKER_ROOT", str(home.root / "r"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("SUDO_USER", raising=False)
    with ServedBroker(world, home.root / "r") as broker:
        yield broker


def decoy(*arguments):
    return main(["decoy", *arguments])


def whose(home):
    return ["--user", str(UID), "--home", str(home.home)]


def test_a_decoy_s_life(served, world, home, capsys):
    home.file(".env", "A=1\n", mode=0o640)
    before = home.snapshot()
    assert decoy("plant", "--kind", "env-file", *whose(home), "--yes") == 0
    out, err = capsys.readouterr()
    for piece in ("Plan: plant 1 decoy", "~/.env", "one entry more", "a later line", "planted"):
        assert piece in out
    assert "careful" in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert err == ""
    assert world.reloads == 1

    assert decoy("list") == 0
    out = capsys.readouterr().out
    assert "env-file" in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert decoy("refresh", "--expired", "--yes") == 0
    assert capsys.readouterr().err == "no decoy is due\n"
    assert decoy("refresh", ".env", "--yes", "--json") == 0
    (done,) = json.loads(capsys.readouterr().out)["report"]
    assert (done["kind"], done["what"]) == ("env-file", "refreshed")

    assert decoy("remove", str(home.home / ".env"), "--yes") == 0
    assert "as it was" in capsys.readouterr().out
    assert home.snapshot() == before
    assert decoy("list") == 0
    assert "decoy targets" in capsys.readouterr().err


def test_nothing_that_is_printed_holds_a_value(served, home, capsys):
    home.file(".config/gh/hosts.yml", "github.com:\n  oauth_token: gho_mine\n")
    said = ""
    for arguments in (
        ("plant", "--kind", "gh-hosts", *whose(home), "--yes"),
        ("list",),
        ("list", "--json"),
        ("plant", "--kind", "gh-hosts", *whose(home), "--yes"),
        ("refresh", "--all", "--yes"),
    ):
        decoy(*arguments)
        captured = capsys.readouterr()
        said += captured.out + captured.err
    token = (home.home / ".config/gh/hosts.yml").read_text().split("oauth_token: ghp_")[1].split()[0]
    assert len(token) == 36
    assert token not in said
    assert "gho_mine" not in said
    assert "values_sha256" not in said


def test_targets_show_empty_places_and_plant_takes_them(served, home, capsys):
    home.file(".aws/config", "[default]\nregion = eu\n")
    home.file(".kube/config", "clusters: []\n")
    home.file(".netrc", "machine a login b password c\n")
    before = home.snapshot()
    assert decoy("targets", "--dry-run", *whose(home)) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert decoy("targets", *whose(home), "--json") == 0
    fits = {each["kind"]: each["fits"] for each in json.loads(capsys.readouterr().out)}
    assert {kind for kind, fit in fits.items() if fit} == {"aws-profile", "env-file"}
    assert len(fits) == 16
    assert home.snapshot() == before

    assert decoy("plant", "--all-targets", *whose(home), "--yes") == 0
    planted = load_planted(served.layout.decoys_folder)
    assert {each.kind for each in planted} == {"aws-profile", "env-file"}
    assert all("--all-targets" in each.route for each in planted)
    assert {name: facts for name, facts in home.snapshot().items() if name in before} == before
    assert decoy("targets", *whose(home), "--json") == 0
    capsys.readouterr()
    assert decoy("plant", "--all-targets", *whose(home), "--yes") == 0
    assert "no place of this home fits" in capsys.readouterr().out


def test_a_dry_run_changes_nothing_and_needs_no_broker(served, home, capsys):
    served.stop()
    assert decoy("plant", "--kind", "env-file", *whose(home), "--dry-run", "--json", "--deny", "--expires", "12h") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["report"] is None
    (plan,) = answer["plan"]
    assert (plan["kind"], plan["deny"], plan["lifetime_ns"]) == ("env-file", True, 12 * 3_600_000_000_000)
    assert home.snapshot() == {}


def test_an_expired_decoy_is_due_and_renewed(served, home, capsys):
    decoy("plant", "--kind", "netrc", *whose(home), "--expires", "1h", "--yes")
    folder = served.layout.decoys_folder
    (record,) = folder.glob("*.json")
    (journal,) = (served.layout.enroll_folder / "decoys").glob("*.json")
    (before,) = load_planted(folder)
    for path in (record, journal):  # three hours ago
        text = path.read_text()
        for moment in (before.planted_ns, before.expires_ns):
            text = text.replace(str(moment), str(moment - 3 * 3_600_000_000_000))
        path.write_text(text)
    capsys.readouterr()
    decoy("list")
    assert "due" in capsys.readouterr().out
    assert decoy("refresh", "--expired", "--yes") == 0
    (after,) = load_planted(folder)
    assert after.expires_ns - after.planted_ns == 3_600_000_000_000
    assert after.planted_ns >= before.planted_ns
    assert not set(after.values_sha256) & set(before.values_sha256)


MISUSES = {
    "no kind": ("plant",),
    "both": ("plant", "--kind", "netrc", "--all-targets"),
    "unknown kind": ("plant", "--kind", "bitcoin"),
    "bad time": ("plant", "--kind", "netrc", "--expires", "soon"),
    "json without yes": ("plant", "--kind", "netrc", "--json"),
    "denied to tools": ("plant", "--kind", "netrc", "--deny"),
    "refresh what": ("refresh",),
    "refresh two": ("refresh", "--all", "--expired"),
    "remove nothing": ("remove", ".env", "--yes"),
    "nobody to ask": ("plant", "--kind", "netrc"),
}


@pytest.mark.parametrize("arguments", MISUSES.values(), ids=MISUSES.keys())
def test_a_misuse_is_a_sentence_and_a_next_step(served, home, capsys, monkeypatch, arguments):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    more = whose(home) if arguments[0] == "plant" else []
    assert decoy(*arguments, *more) == 2
    sentence, *rest = capsys.readouterr().err.splitlines()
    assert sentence.startswith("agent-broker: ")
    assert rest
    assert home.snapshot() == {}


def as_stranger(*arguments):
    """Run it as a user of no group; everything is imported before, since that user may not read the checkout."""
    program = (
        "import os, sys; import agent_broker.cli.decoy; from agent_broker.cli.main import main; "
        f"os.setgroups([]); os.setgid({UID}); os.setuid({UID}); sys.exit(main())"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "decoy", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("arguments", [("plant", "--kind", "netrc"), ("targets",), ("recover",), ("remove", "x")])
def test_it_is_for_root(arguments):
    done = as_stranger(*arguments)
    assert done.returncode == 3
    assert "sudo" in done.stderr


def test_the_list_is_refused_to_others(served, home):
    decoy("plant", "--kind", "netrc", *whose(home), "--yes")
    done = as_stranger("list")
    assert done.returncode == 3, done.stderr
    assert "group" in done.stderr
    assert ".netrc" not in done.stdout + done.stderr


def test_a_decoy_is_not_enrolled_as_if_it_were_the_users_login(served, home, capsys):
    home.make_folder(home.home / ".claude")
    assert decoy("plant", "--kind", "claude-oauth", *whose(home), "--yes") == 0
    before = home.snapshot()
    assert main(["enroll", "claude", *whose(home), "--dry-run"]) == 2
    assert "decoy remove" in capsys.readouterr().err
    assert home.snapshot() == before


def test_one_decoy_that_can_t_be_renewed_does_not_keep_the_others_from_it(served, home, capsys):
    for kind in ("env-file", "netrc"):
        decoy("plant", "--kind", kind, *whose(home), "--yes")
    (home.home / ".env").unlink()
    (home.home / ".env").symlink_to("/etc/passwd")
    before = {each.kind: each.values_sha256 for each in load_planted(served.layout.decoys_folder)}
    capsys.readouterr()
    assert decoy("refresh", "--all", "--yes") == 2
    captured = capsys.readouterr()
    assert "netrc, refreshed" in captured.out
    assert "symbolic link" in captured.err
    after = {each.kind: each.values_sha256 for each in load_planted(served.layout.decoys_folder)}
    assert after["env-file"] == before["env-file"]
    assert after["netrc"] != before["netrc"]


def test_the_list_shows_the_owners_home_as_a_tilde():
    me = pwd.getpwuid(os.getuid())
    assert below_home(f"{me.pw_dir}/.env", me.pw_uid) == "~/.env"
    assert below_home(f"{me.pw_dir}more/.env", me.pw_uid) == f"{me.pw_dir}more/.env"
    assert below_home("/x/.env", 4_000_000_000) == "/x/.env"
