"""``scan`` of homes that their users made to hurt it: it ends, says what it left out, leaks nothing (needs root)."""

import json
import os
import signal
import socket
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest

from agent_broker.enroll.inventory import STOPPED, Knowledge, take_inventory
from agent_broker.enroll.inventory_protocol import Limits
from agent_broker.enroll.inventory_walk import TOO_LATE, TOO_MANY
from agent_broker.monitor.catalogue import shipped_catalogue
from tests.fakes.channels import Channels
from tests.fakes.enroll_world import UID
from tests.fakes.scan_world import ScanWorld, places

KEY = "sk-ant-api03-" + "Ho5" * 30 + "-_AA"
EXPORT = f"export ANTHROPIC_API_KEY={KEY}\n"


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("SUDO_USER", raising=False)
    made = ScanWorld()
    made.file(".bashrc", EXPORT)
    yield made
    made.close()


def look(world, **more):
    options = {"knowledge": Knowledge(), "become": True, "phantom_prefix": "agent-broker-phantom-", **more}
    return take_inventory(world.owner, shipped_catalogue(), **options)


def scanned(world, capsys):
    assert world.scan("--json") == 0
    return json.loads(capsys.readouterr().out)


def assert_found(report):
    assert places(report)[".bashrc", "ANTHROPIC_API_KEY"]["state"] == "plain"
    assert KEY not in json.dumps(report)


def test_a_hundred_thousand_files(world, capsys):
    folder = world.make_folder(world.home / "many")
    fd = os.open(folder, os.O_DIRECTORY)
    for number in range(100_000):
        os.mknod(f"f{number}", 0o600, dir_fd=fd)
    os.close(fd)
    report = scanned(world, capsys)
    assert_found(report)
    assert not report["homes"][0]["complete"]
    assert report["homes"][0]["not_looked_at"][TOO_MANY] >= 1


def test_ten_thousand_env_files(world):
    folder = world.make_folder(world.home / "many")
    for number in range(10_000):
        (folder / f".env.{number}").write_text(f"API_SECRET=0123456789abcdef{number}\n")
    found = look(world, limits=Limits(opened_files=2000, findings=500))
    assert len(found.credentials) == 500
    assert found.missed[TOO_MANY] >= 9000


def test_what_is_no_regular_file_is_not_opened(world, capsys):
    for name in (".profile", ".zshrc", "src/.env", ".ssh/id_rsa", ".claude.json", ".local/bin/claude"):
        for folder in reversed(Path(name).parents[:-1]):
            if not (world.home / folder).exists():
                world.make_folder(world.home / folder)
        os.mkfifo(world.home / name, 0o777)
    os.mknod(world.home / ".zshenv", stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(world.home / ".pgpass"))
        report = scanned(world, capsys)
    assert_found(report)
    assert len(places(report)) == 1
    assert report["homes"][0]["agents"] == []


def test_huge_files_are_left_out_and_told(world, capsys):
    for name in (".zshrc", "src/.env", ".claude.json", ".pgpass"):
        os.truncate(world.file(name, b"x"), 3 * 1024**3)
    (world.file(".npmrc", "//r/:_authToken=" + "npm_" + "a" * 36 + "\n" + "x" * 1024 * 1024))
    report = scanned(world, capsys)
    assert_found(report)
    assert places(report)[".npmrc", ""]["state"] == "plain"
    assert report["homes"][0]["not_looked_at"]["too big"] == 4


def test_lines_and_values_without_end(world, capsys):
    world.file(".zshrc", b"export A_TOKEN=" + b"a" * 3_000_000 + b"\n" + EXPORT.encode())
    world.file(".profile", b"\n" * 3_000_000)
    world.file(".zprofile", b"A=" * 1_500_000)
    world.file("src/.env", bytes(range(256)) * 1000)
    world.file(".claude/settings.json", b'{"a":' * 100_000)
    world.file(".claude/settings.local.json", "[" * 100_000)
    report = scanned(world, capsys)
    assert_found(report)
    assert places(report)[".zshrc", "ANTHROPIC_API_KEY"]["line"] == 2


NAMES = (
    "new\nline",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202egnp.exe",
    "a b 'c' \"d\" $(touch x) `id`",
    "-rf",
    "\udcff\udcfe",
)


def test_names_that_a_terminal_or_a_shell_would_obey(world, capsys):
    for name in NAMES:
        folder = world.make_folder(Path(os.fsdecode(os.fsencode(str(world.home)) + b"/" + os.fsencode(name))))
        world.make(folder / ".env", "API_SECRET=0123456789abcdef\n", 0o644)
    report = scanned(world, capsys)
    assert len(places(report)) == len(NAMES) + 1
    assert world.scan() == 0
    table = capsys.readouterr().out
    assert [char for char in table if not char.isprintable() and char != "\n"] == []
    chmods = {remedy for row in places(report).values() for remedy in row["remedies"] if remedy.startswith("chmod")}
    assert len(chmods) == len(NAMES)
    for command in chmods:
        done = subprocess.run(["/bin/bash", "-c", command], cwd=world.root, env={"PATH": "/usr/bin:/bin"}, check=False)
        assert done.returncode == 0, command
    assert not [row for row in places(scanned(world, capsys)).values() if row["readers"]["everybody"]]
    assert not (world.root / "x").exists()


def test_links_lead_nowhere(world, capsys):
    secret = world.root / "roots-secret"
    secret.write_text("export ROOT_SECRET=0123456789abcdef-of-root\n")
    secret.chmod(0o600)
    outside = world.root / "outside"
    outside.mkdir()
    (outside / ".env").write_text("OUTSIDE_SECRET=0123456789abcdef\n")
    world.make_folder(world.home / "src")
    for name, target in {
        ".profile": secret,
        ".zshrc": "/proc/self/environ",
        "src/.env": secret,
        "src/out": outside,
        "src/loop": "loop",
        "src/up": "..",
        "src/self": world.home,
        ".ssh": "/etc/ssh",
        ".aws": outside,
        ".claude.json": "/etc/shadow",
    }.items():
        (world.home / name).symlink_to(target)
    report = scanned(world, capsys)
    assert_found(report)
    assert set(places(report)) == {(".bashrc", "ANTHROPIC_API_KEY")}


def test_a_profile_that_a_dotfile_manager_linked_is_looked_at_where_it_is(world, capsys):
    world.file("dotfiles/zshrc", EXPORT)
    (world.home / ".zshrc").symlink_to("dotfiles/zshrc")
    world.file("dotfiles/profile", EXPORT)
    (world.home / ".profile").symlink_to(world.home / "dotfiles/profile")
    rows = places(scanned(world, capsys))
    assert rows["dotfiles/zshrc", "ANTHROPIC_API_KEY"]["source"] == "profile"
    assert rows["dotfiles/profile", "ANTHROPIC_API_KEY"]["line"] == 1


def test_folders_nested_without_end_and_closed_ones(world, capsys):
    folder = world.home
    for _ in range(700):
        folder = world.make_folder(folder / "d")
    closed = world.make_folder(world.home / "closed")
    world.make(closed / ".env", "API_SECRET=0123456789abcdef\n")
    os.chown(closed, 0, 0)
    closed.chmod(0o700)
    report = scanned(world, capsys)
    assert_found(report)
    assert not report["homes"][0]["complete"]
    assert set(places(report)) == {(".bashrc", "ANTHROPIC_API_KEY")}  # root does not see more than the user


def test_the_time_is_bounded(world):
    folder = world.make_folder(world.home / "many")
    for number in range(3000):
        (folder / f"{number}").touch()
    found = look(world, limits=Limits(time_s=0.0))
    assert found.missed[TOO_LATE] == 1


def test_a_process_that_its_user_stops_is_given_up_with_what_was_found(world, monkeypatch):
    stopped, channels = threading.Event(), Channels(monkeypatch)

    def stop(_entries):
        if not stopped.is_set():
            (child,) = [pid for pid in children() if b"inventory_process" in Path(f"/proc/{pid}/cmdline").read_bytes()]
            os.kill(child, signal.SIGSTOP)
            stopped.set()
            channels.grow_impatient()

    folder = world.make_folder(world.home / "many")
    for number in range(3000):  # more than a socket holds: it is not over before the stop
        (folder / f".env.{number}.{'x' * 200}").write_text("API_SECRET=0123456789abcdef\n")
    found = look(world, on_entries=stop)
    assert stopped.is_set()
    assert found.missed[STOPPED] == 1
    deadline = time.monotonic() + 30
    while any(b"inventory_process" in cmdline(pid) for pid in children()):
        assert time.monotonic() < deadline


def test_a_session_bus_that_never_answers_costs_nothing_that_was_found(world):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(world.root / "bus"))
        (world.root / "bus").chmod(0o777)
        silent.listen()
        found = look(world, bus=str(world.root / "bus"), silence_s=15.0)
    assert [each.name for each in found.credentials] == ["ANTHROPIC_API_KEY"]


def children():
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def cmdline(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_it_has_no_right_that_the_user_has_not(world, capsys):
    mine = world.file("src/.env", "API_SECRET=0123456789abcdef\n")
    os.chown(mine, 0, 0)
    report = scanned(world, capsys)
    assert_found(report)
    assert "src/.env" not in {path for path, _ in places(report)}
    assert report["homes"][0]["not_looked_at"] == {"not readable": 1}
    assert UID != 0
