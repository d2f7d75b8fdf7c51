"""``alerts``, ``alert show``, ``alert ack`` and ``report`` against a broker in memory on real sockets."""

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent_broker.cli.main import main
from agent_broker.clock import SystemClock
from agent_broker.errors import MisuseError, RefusedError
from agent_broker.identity.allowed import load_allowed
from agent_broker.identity.executable import hash_open_file
from tests.fakes.control import FakeBroker, ServedBroker, image, lineage
from tests.fakes.incidents import backup, hostile, incident_of, opened_credential, opened_decoy

DAY_NS = 86_400 * 10**9
DECOY_ID = opened_decoy().id


@pytest.fixture
def world() -> FakeBroker:
    made = FakeBroker()
    made.incidents = [incident_of(each) for each in (opened_decoy(), opened_credential(), backup())]
    return made


@pytest.fixture
def served(world: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedBroker]:
    with tempfile.TemporaryDirectory() as root:
        monkeypatch.setenv("AGENT_BROKER_ROOT", root)
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.delenv("SUDO_UID", raising=False)
        with ServedBroker(world, Path(root)) as broker:
            yield broker


@pytest.fixture
def ab(served: ServedBroker, capsys: pytest.CaptureFixture[str]):
    def run(*words: str) -> tuple[int, str, str]:
        code = main(words)
        return code, *capsys.readouterr()

    return run


def ids(out: str) -> list[str]:
    return [line.split()[-1] for line in out.splitlines()[1:]]


def test_the_table_has_a_line_for_each_and_hides_what_was_acknowledged(ab, world: FakeBroker) -> None:
    assert ids(ab("alerts")[1]) == [each.id[:7] for each in world.incidents]
    assert ab("alert", "ack", DECOY_ID[:6], "--reason", "a drill")[:2] == (0, f"acknowledged: {DECOY_ID[:7]}\n")
    assert DECOY_ID[:7] not in ids(ab("alerts")[1])
    assert DECOY_ID[:7] in ids(ab("alerts", "--all")[1])
    assert [json.loads(line)["id"] for line in ab("alerts", "--json")[1].splitlines()] == [
        each.id for each in world.incidents[1:]
    ]
    acked = [json.loads(line)["acked"] for line in ab("alerts", "--json", "--all")[1].splitlines()]
    assert (acked[0]["reason"], acked[0]["uid"], acked[1]) == ("a drill", 0, None)
    world.incidents.append(msgspec.structs.replace(world.incidents[0], revision=3, count=9))
    assert DECOY_ID[:7] not in ids(ab("alerts")[1])


def test_severity_and_since_filter(ab, world: FakeBroker) -> None:
    assert ids(ab("alerts", "--severity", "critical")[1]) == [each.id[:7] for each in world.incidents[:2]]
    world.incidents[1] = msgspec.structs.replace(world.incidents[1], last_ns=SystemClock().wall_ns())
    assert ids(ab("alerts", "--since", "2h")[1]) == [world.incidents[1].id[:7]]
    assert ab("alerts", "--since", "soon")[0] == MisuseError.exit_code
    assert ab("alerts", "--severity", "dreadful")[0] == MisuseError.exit_code
    assert ab("alerts", "--long", "--json")[0] == MisuseError.exit_code


def test_long_shows_the_blocks(ab) -> None:
    out = ab("alerts", "--long", "--limit", "1")[1]
    assert out.startswith("WARNING  2026-")
    assert "  lineage  rsync <- bash" in out


def test_show_tells_the_story_with_tree_and_timeline(ab) -> None:
    code, out, err = ab("alert", "show", DECOY_ID[:5])
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for piece in (
        "CRITICAL  A decoy was opened",
        "It happened 3 times within 41 s",
        "opened one more file: /home/alice/.aws/credentials",
        "  └─ bash",
        "     └─ 2.1.330 (as claude)",
        "started 25 min before",
        "sha256 4bb06f8e4e3a7715…",
        "● A decoy was opened",
        "2 times more, this is the last (41 s later)",
        "older than the monitor",
        "T1552.001  Unsecured Credentials: Credentials In Files",
        "sudo agent-broker thaw claude",
    ):
        assert piece in " ".join(out.split("\n  ")).replace("\n", " ") or piece in out
    assert json.loads(ab("alert", "show", DECOY_ID, "--json")[1])["offender"]["cwd"] == "/home/alice/shop"
    ab("alert", "ack", DECOY_ID, "--reason", "a drill")
    assert "◆ Acknowledged by root (0)" in ab("alert", "show", DECOY_ID)[1]


def test_hostile_texts_reach_the_terminal_as_text_and_bounded(ab, world: FakeBroker) -> None:
    world.incidents = [incident_of(hostile())]
    out = ab("alert", "show", DECOY_ID)[1]
    assert all(line.isprintable() for line in out.splitlines())
    assert "</script><script>alert(1)</script>" in out
    assert len(out) < 200_000


@pytest.mark.parametrize("command", [("alert", "show"), ("alert", "ack"), ("report", "-o", "x.html")])
@pytest.mark.parametrize("wrong", ["ffff", ""])
def test_an_id_that_is_none_is_misuse(ab, command: tuple[str, ...], wrong: str) -> None:
    code, out, err = ab(*command, wrong)
    assert (code, out) == (MisuseError.exit_code, "")
    assert err


def test_who_called_sudo_is_who_acknowledged(ab, world: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    for told, uid in (("1000", 1000), ("nonsense", 0), ("-1", 0), (str(1 << 33), 0)):
        monkeypatch.setenv("SUDO_UID", told)
        ab("alert", "ack", DECOY_ID)
        assert world.acks[DECOY_ID].uid == uid


# -- --allow ---------------------------------------------------------------------------------------------------


@pytest.fixture
def program() -> Iterator[Path]:
    """A program as a distribution installs one: root's, in folders of root's."""
    folder = Path(tempfile.mkdtemp(prefix="agent-broker-test-", dir="/opt"))
    folder.chmod(0o755)
    path = folder / "backup-tool"
    shutil.copy("/usr/bin/true", path)
    path.chmod(0o755)
    yield path
    shutil.rmtree(folder)


def by(path: Path, *more, **changes):
    """An alert about an open by this program."""
    fd = os.open(path, os.O_RDONLY)
    try:
        sha256 = hash_open_file(fd)
    finally:
        os.close(fd)
    facts = {"lineage": lineage(image(str(path)), *more), "process_sha256": sha256}
    return incident_of(backup(**(facts | changes)))


def test_allow_writes_down_the_verified_program_and_reloads(
    ab, world: FakeBroker, served: ServedBroker, program: Path
) -> None:
    served.layout.allowed_folder.mkdir(parents=True)
    world.incidents = [by(program)]
    before = SystemClock().wall_ns()
    code, out, err = ab("alert", "ack", "d05c", "--allow", "--reason", "nightly backup", "--expires", "30d")
    assert (code, out) == (0, "acknowledged: d05c0ff\n")
    assert f"{program} (sha256 " in err
    (record,) = load_allowed(served.layout.allowed_folder)
    assert (record.program, record.sha256) == (str(program), world.incidents[0].process_sha256)
    assert (record.package, record.reason) == ("rsync 3.2.7-1", "nightly backup")
    assert record.opens == ("/home/alice/.claude/.credentials.json", "/home/alice/.aws/credentials")
    assert 30 * DAY_NS <= record.expires_ns - before < 31 * DAY_NS
    assert world.reloads == 1
    (ack,) = world.acks.values()
    assert (ack.allowed, ack.expires_ns) == (str(program), record.expires_ns)


def changed(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def users_folder(path: Path) -> None:
    os.chown(path.parent, 4711, 4711)


def users_file(path: Path) -> None:
    os.chown(path, 4711, 4711)


@pytest.mark.parametrize("spoil", [changed, users_folder, users_file, Path.unlink, lambda path: path.chmod(0o775)])
def test_a_file_that_is_not_roots_and_unchanged_is_not_allowed(ab, world: FakeBroker, program: Path, spoil) -> None:
    world.incidents = [by(program)]
    spoil(program)
    refused(ab, world)


def refused(ab, world: FakeBroker, why: str = "") -> None:
    code, out, err = ab("alert", "ack", world.incidents[0].id, "--allow", "--reason", "x")
    assert (code, out) == (RefusedError.exit_code, ""), err
    assert "can't be allowed: " in err
    assert why in err
    assert (world.acks, world.reloads) == ({}, 0)


def spoiled(step, **changes):
    return msgspec.structs.replace(step, image=msgspec.structs.replace(step.image, **changes))


def test_what_the_record_says_against_it(ab, world: FakeBroker, program: Path) -> None:
    good = by(program)
    step = good.lineage[0]
    bad_file = msgspec.structs.replace(step.image.file, owner_uid=4711)
    cases = {
        "descends from the agent claude": {"agent": "claude"},
        "its program is not known": {"process_sha256": None},
        "not about a program that opened": {"kind": "phantom-replayed"},
        "nobody saw it start": {"lineage": (spoiled(step, observed=False),)},
        "tampered with: traced": {"lineage": (spoiled(step, taints=("traced",)),)},
        "it is a script": {"lineage": (spoiled(step, interp="/usr/bin/python3"),)},
        "of the user's own": {"lineage": (spoiled(step, user_mounted=True),)},
        "changed by others": {"lineage": (spoiled(step, file=bad_file),)},
        "depends on its folder": {"lineage": (spoiled(step, filename="./backup-tool", interp="./backup-tool"),)},
    }
    for why, changes in cases.items():
        world.incidents = [msgspec.structs.replace(good, **changes)]
        refused(ab, world, why)
    world.incidents = [msgspec.structs.replace(good, lineage=())]
    refused(ab, world, "its program is not known")
    parent = msgspec.structs.replace(step, tampered=("written to",))
    world.incidents = [msgspec.structs.replace(good, lineage=(step, parent))]
    refused(ab, world, "tampered with: written to")


@pytest.mark.parametrize("name", ["/usr/bin/python3", "/bin/bash", "/usr/bin/perl", "/usr/bin/env", "/usr/bin/awk"])
def test_an_interpreter_is_not_allowed(ab, world: FakeBroker, name: str) -> None:
    world.incidents = [by(Path(name))]
    refused(ab, world, "runs what it is given")


def test_an_interpreter_by_another_name_is_found_behind_its_link(ab, world: FakeBroker, program: Path) -> None:
    program.unlink()
    program.symlink_to("/usr/bin/bash")
    world.incidents = [by(program)]
    refused(ab, world, "bash runs what it is given")


@pytest.mark.parametrize(
    "words",
    [("--allow",), ("--allow", "--reason", " "), ("--expires", "3d"), ("--allow", "--reason", "x", "--expires", "3")],
)
def test_an_incomplete_wish_is_misuse(ab, world: FakeBroker, words: tuple[str, ...]) -> None:
    assert ab("alert", "ack", "d05c", *words)[0] == MisuseError.exit_code
    assert world.acks == {}


def test_an_endless_reason_allows_nothing(ab, world: FakeBroker, served: ServedBroker, program: Path) -> None:
    served.layout.allowed_folder.mkdir(parents=True)
    world.incidents = [by(program)]
    assert ab("alert", "ack", "d05c", "--allow", "--reason", "x" * 501)[0] == MisuseError.exit_code
    assert list(served.layout.allowed_folder.iterdir()) == []


# -- report ----------------------------------------------------------------------------------------------------


def test_report_writes_one_private_file_and_overwrites_only_when_told(ab, tmp_path: Path) -> None:
    path = tmp_path / "incident.html"
    assert ab("report", DECOY_ID[:6], "-o", str(path)) == (0, "", f"written: {path}\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    page = path.read_text()
    assert page.startswith("<!doctype html>")
    assert "/home/alice/.claude/.credentials.json" in page
    path.write_text("mine")
    code, _, err = ab("report", DECOY_ID, "-o", str(path))
    assert (code, path.read_text()) == (MisuseError.exit_code, "mine")
    assert "--force" in err
    assert ab("report", DECOY_ID, "-o", str(path), "--force")[0] == 0
    assert path.read_text().startswith("<!doctype html>")
    assert [each.name for each in tmp_path.iterdir()] == ["incident.html"]
    assert ab("report", DECOY_ID, "-o", "-")[1].startswith("<!doctype html>")


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_root_follows_no_link(ab, tmp_path: Path, force: tuple[str, ...]) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    (tmp_path / "file.html").symlink_to(real / "target.html")
    for path in (link / "x.html", tmp_path / "file.html", tmp_path / "none/x.html", real, Path("/dev/null")):
        code, _, err = ab("report", DECOY_ID, "-o", str(path), *force)
        assert (code, "Traceback" in err) == (MisuseError.exit_code, False), err
    assert list(real.iterdir()) == []
