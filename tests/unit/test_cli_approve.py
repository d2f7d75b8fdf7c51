"""``approve`` as a command: a real home, real executables and sockets, a broker in memory, a monitor's service."""

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from agent_broker.cli.main import main
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.program import find_program
from agent_broker.identity.registry import Enrollment, load_registry, save_enrollment
from agent_broker.monitor.listener import bind_monitor_socket
from agent_broker.monitor.provenance import Provenance, Seen, Writer
from agent_broker.monitor.service import Service
from agent_broker.monitor.spool import Spool
from tests.fakes.control import FakeBroker, ServedBroker
from tests.fakes.enroll_world import UID, EnrollWorld
from tests.fakes.npm_install import Npm, enrolled

PROGRAM = "import sys; from agent_broker.cli.main import main; sys.exit(main())"
ITSELF = Writer("/home/u/.local/bin/claude", 77, UID, ("/home/u/.local/bin/claude", "/bin/bash"), "claude", True, "", 1)
TOOL = Writer("/bin/cp", 78, UID, ("/bin/cp", "/bin/bash", "/home/u/.local/bin/claude"), "claude", False, "", 1)


@pytest.fixture
def native(home: EnrollWorld) -> EnrollWorld:
    """Claude as its own installer leaves it: a versions folder, and a link to one of them."""
    versions, launcher = home.home / ".local/share/claude/versions", home.home / ".local/bin/claude"
    for folder in (versions, launcher.parent):
        folder.mkdir(parents=True)
    shutil.copy("/bin/true", versions / "2.1.330")
    launcher.symlink_to(versions / "2.1.330")
    return home


def install(home: EnrollWorld, version: str, source: str = "/bin/false") -> Path:
    """Do what the installer does for a new version."""
    new, launcher = home.home / f".local/share/claude/versions/{version}", home.home / ".local/bin/claude"
    shutil.copy(source, new)
    launcher.unlink()
    launcher.symlink_to(new)
    return new


def enroll(home: EnrollWorld, binary: Path | None = None) -> None:
    words = ["enroll", "claude", "--user", str(UID), "--home", str(home.home), "--yes"]
    assert main([*words, "--binary", str(binary or home.home / ".local/bin/claude")]) == 0


def approve(*options: str) -> int:
    return main(["approve", "claude", "--user", str(UID), *options])


def registered(served: ServedBroker) -> Enrollment:
    return load_registry(served.layout.registry_folder)[0]


def sha256(path: Path | str) -> str:
    return hashlib.sha256(Path(path).resolve().read_bytes()).hexdigest()


@contextmanager
def monitor(served: ServedBroker, told: Provenance) -> Iterator[list[tuple[int, int]]]:
    """The monitor's own service; yields the inodes of the files that were asked about."""
    asked: list[tuple[int, int]] = []

    def who_wrote(fd: int) -> Provenance:
        facts = os.fstat(fd)
        asked.append((facts.st_dev, facts.st_ino))
        return told

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    spool = Spool(served.layout.spool)
    service = Service(
        listener=bind_monitor_socket(served.layout.monitor_socket, 0), broker_uid=0, attestor=None, spool=spool,  # type: ignore[arg-type]  # nobody is attested here
        reload=None, status=None, who_wrote=who_wrote,  # type: ignore[arg-type]  # and nothing else is asked
    )  # fmt: skip
    loop.call_soon_threadsafe(service.start)
    try:
        yield asked
    finally:
        asyncio.run_coroutine_threadsafe(service.close(), loop).result()
        spool.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_new_version_is_shown_beside_the_old_one_and_enrolled(
    served: ServedBroker, world: FakeBroker, native: EnrollWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    enroll(native)
    old = registered(served).binaries[0]
    new = install(native, "2.1.331")
    capsys.readouterr()
    told = Provenance(True, True, "", (Seen(ITSELF, {"created", "wrote", "closed"}, 1_790_000_000_000_000_000),))
    with monitor(served, told) as asked:
        assert approve("--yes") == 0

    out, err = capsys.readouterr()
    flat = "".join(out.split())
    for piece in ("2.1.330", "2.1.331", old.sha256, sha256("/bin/false"), str(old.path), str(new)):
        assert piece in flat
    assert "the agent claude itself: created and wrote it" in " ".join(out.split())
    assert "and prove nothing" in " ".join(out.split())
    assert all(len(line) <= 80 for line in out.splitlines())
    assert err == ""
    assert asked == [(new.stat().st_dev, new.stat().st_ino)]
    after = registered(served)
    assert [(each.path, each.sha256) for each in after.binaries] == [(str(new), sha256("/bin/false"))]
    assert after.binaries[0].launchers == old.launchers == (str(native.home / ".local/bin/claude"),)
    assert [(each.how, each.version, each.sha256) for each in after.history] == [
        ("enroll", "2.1.330", old.sha256),
        ("approve", "2.1.331", sha256("/bin/false")),
    ]
    assert world.reloads == 2


def test_every_approved_version_stays_in_the_history(served: ServedBroker, native: EnrollWorld) -> None:
    enroll(native)
    for version, source in (("2.1.331", "/bin/false"), ("2.1.332", "/bin/cat"), ("2.1.333", "/bin/true")):
        install(native, version, source)
        assert approve("--yes") == 0

    assert [each.version for each in registered(served).history] == ["2.1.330", "2.1.331", "2.1.332", "2.1.333"]
    assert len(registered(served).binaries) == 1


def test_an_enrolment_older_than_the_history_gets_one(served: ServedBroker, native: EnrollWorld) -> None:
    enroll(native)
    import msgspec  # noqa: PLC0415 - one test

    save_enrollment(served.layout.registry_folder, msgspec.structs.replace(registered(served), history=()))
    install(native, "2.1.331")
    assert approve("--yes") == 0

    assert [each.how for each in registered(served).history] == ["enroll", "approve"]


def test_a_file_replaced_in_its_place_is_found(served: ServedBroker, home: EnrollWorld) -> None:
    enroll(home, home.binary)
    home.binary.unlink()
    shutil.copy("/bin/false", home.binary)
    assert approve("--yes") == 0

    assert registered(served).binaries[0].sha256 == sha256("/bin/false")


def package(folder: Path, code: str) -> Path:
    """An npm package whose script runs with an interpreter that lies in ``path`` beside it."""
    (folder / "dist").mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"name": "tool", "version": "1.0.0"}')
    (folder / "dist/lib.js").write_text(code)
    script = folder / "dist/cli.js"
    script.write_text("#!/usr/bin/env node\n")
    script.chmod(0o755)
    return script


def test_a_new_package_of_an_interpreted_agent_is_approved_as_a_whole(served: ServedBroker, home: EnrollWorld) -> None:
    path = home.root / "path"
    path.mkdir()
    shutil.copy("/bin/true", path / "node")
    script = package(home.home / "lib/node_modules/tool", "old")
    enroll(home, home.binary)
    old = find_program(script, Owner(UID, UID, (), "u", str(home.home)), [path]).found.enrolled
    save_enrollment(served.layout.registry_folder, msgspec.structs.replace(registered(served), binaries=(old,)))
    package(script.parents[1], "new")
    assert approve("--yes") == 0

    (new,) = registered(served).binaries
    assert (new.path, new.sha256, new.script.path, new.script.sha256) == (
        old.path, old.sha256, old.script.path, old.script.sha256,
    )  # fmt: skip
    assert new.script.bundle.digest != old.script.bundle.digest
    assert new.script.bundle.digest in {each.sha256 for each in registered(served).history}
    assert approve("--yes") == 2  # nothing new


def test_what_of_a_package_is_not_in_its_vendors_tarballs_is_named_in_eighty_columns(
    served: ServedBroker, home: EnrollWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    npm = Npm(home.home)
    path = home.root / "path"
    path.mkdir()
    shutil.copy("/bin/true", path / "node")
    files = {"cli.js": b"#!/usr/bin/env node\n", **{f"lib/{number}.js": b"old" for number in range(9)}}
    for version in ("1.0.0", "1.0.1"):
        root = npm.install("tool", version, files)
    npm.publish("tool", "1.0.1", files)
    enroll(home, home.binary)
    old = enrolled(root / "cli.js", path)
    save_enrollment(served.layout.registry_folder, msgspec.structs.replace(registered(served), binaries=(old,)))
    for number in range(7):
        (root / f"lib/{number}.js").write_bytes(b"evil")
    (root / "\x1b[2Jadded").write_bytes(b"")
    (root / "lib/8.js").unlink()
    assert approve("--yes") == 0

    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "\x1b" not in out
    flat = " ".join(out.split())
    assert (
        "DISAGREES: 3 of 11 files are those in the tarballs that npm noted; packages: tool 1.0.1; "
        "differing: 7; missing: 1; in no tarball: 1 differing: lib/0.js differing: lib/1.js" in flat
    )
    assert "differing: 2 more missing: lib/8.js in no tarball: \\x1b[2Jadded" in flat
    assert "it is not what its vendor's own files say: unless you know why, answer no" in flat


def test_json_counts_and_names_what_differs(
    served: ServedBroker, home: EnrollWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    npm = Npm(home.home)
    path = home.root / "path"
    path.mkdir()
    shutil.copy("/bin/true", path / "node")
    files = {"cli.js": b"#!/usr/bin/env node\n", "data": b""}
    npm.publish("tool", "1.0.0", files)
    root = npm.install("tool", "1.0.0", files)
    enroll(home, home.binary)
    old = enrolled(root / "cli.js", path)
    save_enrollment(served.layout.registry_folder, msgspec.structs.replace(registered(served), binaries=(old,)))
    (root / "data").write_bytes(b"x")
    capsys.readouterr()
    assert approve("--yes", "--json") == 0

    vendor = json.loads(capsys.readouterr().out)["update"]["vendor"]
    assert vendor["evidence"] == "disagrees"
    assert vendor["comparison"] == {
        "files": 3, "same": 2, "packages": ["tool 1.0.0"], "not_compared_packages": {}, "contradicted": [],
        "made_by_npm": 0, "deviations": [{"kind": "differing", "count": 1, "paths": ["data"]}],
    }  # fmt: skip


def test_a_given_executable_is_taken(served: ServedBroker, home: EnrollWorld) -> None:
    enroll(home, home.binary)
    other = home.root / "bin/claude-next"
    shutil.copy("/bin/false", other)
    assert approve("--yes", "--binary", str(other)) == 0

    assert [each.path for each in registered(served).binaries] == [str(other)]


def test_json(served: ServedBroker, native: EnrollWorld, capsys: pytest.CaptureFixture[str]) -> None:
    enroll(native)
    install(native, "2.1.331")
    capsys.readouterr()
    with monitor(served, Provenance(True, False, "the monitor was restarted since", (Seen(TOOL, {"wrote"}, 5),))):
        assert approve("--yes", "--json") == 0

    answer = json.loads(capsys.readouterr().out)
    assert answer["approved"]
    assert answer["update"]["new"]["version"] == "2.1.331"
    assert answer["update"]["vendor"]["evidence"] == "none"
    assert answer["update"]["provenance"]["writers"][0]["did"] == ["wrote"]
    assert answer["update"]["provenance"]["complete"] is False


def test_a_version_that_a_tool_of_the_agent_wrote_is_warned_of(
    served: ServedBroker, native: EnrollWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    enroll(native)
    install(native, "2.1.331")
    with monitor(served, Provenance(True, True, "", (Seen(TOOL, {"wrote"}, 5),))):
        assert approve("--yes") == 0

    assert "perhaps a tool call" in " ".join(capsys.readouterr().out.split())


def test_what_an_attacker_named_is_not_obeyed_by_the_terminal(
    served: ServedBroker, native: EnrollWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    enroll(native)
    install(native, "2.1.331")
    evil = Writer("/tmp/\x1b[2J\x1b]0;x\x07", 78, UID, ("/tmp/\x1b[2J",), None, False, "", 1)
    with monitor(served, Provenance(True, True, "", (Seen(evil, {"wrote"}, 5),))):
        assert approve("--yes") == 0

    assert "\x1b" not in capsys.readouterr().out


def test_without_a_monitor_that_is_said(
    served: ServedBroker, native: EnrollWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    enroll(native)
    install(native, "2.1.331")
    assert approve("--yes") == 0

    assert "not recorded: the monitor does not answer" in " ".join(capsys.readouterr().out.split())


def test_nothing_new_is_misuse(served: ServedBroker, native: EnrollWorld, capsys: pytest.CaptureFixture[str]) -> None:
    enroll(native)
    before = registered(served)
    assert approve("--yes") == 2
    assert "there is nothing to approve" in capsys.readouterr().err
    assert registered(served) == before


def test_what_is_not_enrolled_can_not_be_approved(served: ServedBroker, capsys: pytest.CaptureFixture[str]) -> None:
    assert approve("--yes") == 2
    assert "is not enrolled" in capsys.readouterr().err


def test_a_script_in_the_agents_place_is_refused(
    served: ServedBroker, home: EnrollWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    enroll(home, home.binary)
    home.binary.write_text("#!/bin/sh\nexec evil\n")
    before = registered(served)
    assert approve("--yes", "--binary", str(home.binary)) == 2
    assert registered(served) == before


def test_a_file_that_is_open_for_writing_is_refused(
    served: ServedBroker, native: EnrollWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    enroll(native)
    before = registered(served)
    new = install(native, "2.1.331")
    with new.open("ab"):
        assert approve("--yes") == 2
    assert "open for writing" in capsys.readouterr().err
    assert registered(served) == before
    assert approve("--yes") == 0


def test_a_file_that_changes_while_a_person_thinks_is_refused(
    served: ServedBroker, native: EnrollWorld, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    enroll(native)
    before = registered(served)
    new = install(native, "2.1.331")

    def while_asked(_question: str, *, yes: bool) -> None:
        assert yes
        new.unlink()
        shutil.copy("/bin/cat", new)

    monkeypatch.setattr("agent_broker.cli.approve.confirm", while_asked)
    assert approve("--yes") == 2
    assert "has changed since it was shown" in capsys.readouterr().err
    assert registered(served) == before


def test_nobody_to_ask_is_misuse_and_changes_nothing(served: ServedBroker, native: EnrollWorld) -> None:
    enroll(native)
    before = registered(served)
    install(native, "2.1.331")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "approve", "claude", "--user", str(UID)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert "2.1.331" in done.stdout
    assert registered(served) == before


def test_json_asks_nothing(served: ServedBroker) -> None:
    assert approve("--json") == 2


def test_processes_that_still_run_the_old_version_are_named(
    served: ServedBroker, native: EnrollWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    old = native.home / ".local/share/claude/versions/2.1.330"
    old.unlink()
    shutil.copy(Path("/bin/sleep").resolve(), old)
    enroll(native)
    with subprocess.Popen([old, "1000"], user=UID) as process:
        try:
            install(native, "2.1.331")
            assert approve("--yes") == 0
        finally:
            process.kill()
    assert f"the old version runs (pid {process.pid})" in " ".join(capsys.readouterr().out.split())
