"""A file becomes a view, and back: what is in file, link and vault after each step and each kill (needs root)."""

import json
from pathlib import Path

import pytest

from agent_broker.enroll.curl import LINES
from agent_broker.enroll.view_apply import apply_view, unenroll_view
from agent_broker.errors import MisuseError, UnavailableError
from agent_broker.identity.registry import load_registry
from agent_broker.identity.viewed import load_viewed
from agent_broker.ids import Uid
from tests.fakes.enroll_world import UID, EnrollWorld
from tests.fakes.view_world import TEXT, TOKEN, Killed, ViewWorld


@pytest.fixture
def made():
    world = EnrollWorld("/tmp")
    yield ViewWorld(world)
    world.close()


def test_the_file_becomes_a_link_and_comes_back_byte_for_byte(made):
    made.enroll()
    assert made.path.readlink() == Path(f"/run/views/{UID}/npmrc/.npmrc")
    assert made.path.lstat().st_uid == UID
    (viewed,) = load_viewed(made.world.state / "files")
    decoy = made.world.store.records[viewed.decoy_id].content.decode()
    assert TOKEN not in decoy
    assert decoy.startswith("; mine\n//registry.npmjs.org/:_authToken=npm_")
    assert [each.agent for each in load_registry(made.world.state / "tools")] == ["reader.head"]
    made.unenroll()
    made.assert_as_it_was()


def test_curl_reads_a_netrc_and_no_other_file(made):
    netrc = made.world.make(made.world.home / ".netrc", "machine h login a password abcdefgh1234")
    (curl,) = made.plan(netrc, "/usr/bin/curl").programs
    assert curl.role.lines == LINES
    assert curl.role.home == str(made.world.home)
    with pytest.raises(MisuseError, match="whatever file it is told to"):
        made.plan(made.path, "/usr/bin/curl")


@pytest.mark.parametrize("part", ["/usr/bin/git", "/usr/lib/git-core/git-remote-https"])
def test_git_is_a_reader_once_it_is_enrolled(made, part):
    netrc = made.world.make(made.world.home / ".netrc", "machine h login a password abcdefgh1234")
    with pytest.raises(MisuseError, match="is not enrolled") as caught:
        made.plan(netrc, part)
    assert "enroll git" in (caught.value.next_step or "")


def test_what_was_written_since_comes_back(made):
    made.enroll()
    made.world.store.records[f"file.npmrc/{UID}/content"].content = b"_authToken=npm_newer0123456789"
    made.unenroll()
    assert made.facts()[:4] == (b"_authToken=npm_newer0123456789", *made.before[1:4])


def test_killed_at_every_step_of_enrolling_it_is_undone(made):
    made.enroll()
    steps = list(made.steps)
    made.unenroll()
    for number, step in enumerate(steps):
        made.world.make(made.path, TEXT, mode=0o640)
        made.steps, made.kill_at = [], number
        with pytest.raises(Killed):
            made.enroll()
        assert made.in_vault or made.path.read_bytes() == TEXT.encode(), step
        made.recover()
        if step == "journal: enrolled":
            assert made.is_link
            made.unenroll()
        made.assert_as_it_was()
        assert made.recover() == ()


def test_killed_at_every_step_of_the_way_back_it_is_finished(made):
    made.enroll()
    made.steps = []
    made.unenroll()
    for number, step in enumerate(list(made.steps)):
        made.world.make(made.path, TEXT, mode=0o640)
        made.kill_at = -1
        made.enroll()
        made.steps, made.kill_at = [], number
        with pytest.raises(Killed):
            made.unenroll()
        assert made.in_vault or made.path.read_bytes() == TEXT.encode(), step
        made.recover()
        made.assert_as_it_was()


@pytest.mark.parametrize("what", ["vault", "monitor"])
def test_what_does_not_answer_leaves_everything_as_it_was(made, what):
    if what == "vault":
        made.world.store.kill()
    else:
        made.world.watch.alive = False
    with pytest.raises(Exception, match=r"answer|undone"):
        made.enroll()
    made.world.store.restart()
    made.world.watch.alive = True
    made.recover()
    made.assert_as_it_was()


def test_a_view_that_is_not_mounted_is_an_error_and_no_link(made, monkeypatch):
    monkeypatch.setattr("agent_broker.enroll.view_apply._MOUNT_S", 0)
    made.is_shown = False
    with pytest.raises(UnavailableError, match="not mounted"):
        made.enroll()
    made.assert_as_it_was()


def test_a_file_in_the_links_place_stays_and_the_vaults_goes_beside_it(made):
    made.enroll()
    made.path.unlink()
    made.world.make(made.path, "newer")
    report = made.unenroll()
    assert made.path.read_text() == "newer"
    (kept,) = [path for path in made.world.home.iterdir() if ".before-agent-broker-" in path.name]
    assert kept.read_bytes() == TEXT.encode()
    assert str(kept) in report.outcomes[0].what


def test_a_link_that_its_owner_removed_is_a_file_again(made):
    made.enroll()
    made.path.unlink()
    made.unenroll()
    made.assert_as_it_was()


def test_a_program_is_forgotten_with_the_last_file_that_names_it(made):
    made.enroll()
    other = made.world.make(made.world.home / ".netrc", "machine x login y password abcdefgh1234")
    apply_view(made.plan(other), made.place)
    made.unenroll()
    assert [each.agent for each in load_registry(made.world.state / "tools")] == ["reader.head"]
    unenroll_view("file.netrc", Uid(UID), made.place)
    assert load_registry(made.world.state / "tools") == ()


@pytest.mark.parametrize(
    ("name", "says"),
    [(".claude/.credentials.json", "enroll claude"), (".docker/config.json", "enroll docker")],
)
def test_a_file_whose_program_replaces_links_is_refused_with_the_other_way(made, name, says):
    with pytest.raises(MisuseError) as caught:
        made.plan(made.world.home / name)
    assert says in caught.value.explain()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("git_protocol: https\nhttp_unix_socket: /run/user/1/evil\n", "http_unix_socket is set"),
        ('"http_unix_socket": "/run/evil"\n', "http_unix_socket is set"),
        ("http_unix_socket: [/run/evil\n", "is not known"),
        ("# A socket\nhttp_unix_socket:\n", ""),
        ("", ""),
    ],
    ids=["set", "quoted", "unreadable", "null", "empty"],
)
def test_the_plan_for_gh_tells_of_a_socket_that_its_settings_name(made, config, says):
    world = made.world
    for name in (".config", ".config/gh"):
        world.make_folder(world.home / name)
    hosts = world.make(world.home / ".config/gh/hosts.yml", "github.com:\n    oauth_token: gho_abcdefgh1234abcdefgh\n")
    world.make(world.home / ".config/gh/config.yml", config)

    told = made.plan(hosts).warnings[1:]

    assert [says in each for each in told] == ([True] if says else [])


def test_what_can_be_no_view_is_refused(made):
    made.world.make(made.world.home / ".plain", "color=auto\n")
    link = made.world.home / ".link"
    link.symlink_to(made.path)
    for path, reason in ((made.world.home / ".plain", "looks like a secret"), (link, "symbolic link")):
        with pytest.raises(MisuseError, match=reason):
            made.plan(path)
    with pytest.raises(MisuseError, match="not in the home"):
        made.plan(Path("/etc/shadow"))
    with pytest.raises(MisuseError, match="not enrolled"):
        made.plan(None, "codex")
    made.enroll()
    with pytest.raises(MisuseError, match="already"):
        made.plan()


def test_no_journal_and_no_registry_holds_a_secret(made):
    made.enroll()
    held = [path for path in made.world.state.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert held == []
    assert json.loads((made.world.state / "files" / f"file.npmrc-{UID}.json").read_text())["path"] == ".npmrc"
    assert (made.world.state / "files").stat().st_mode & 0o022 == 0
