"""What a home may hold against us: each has a clear error, and nothing is changed (needs root)."""

import json
import os
import signal
from pathlib import Path

import pytest

from agent_broker.enroll import user_channel
from agent_broker.enroll.apply import apply_plan
from agent_broker.enroll.owner import owner_of
from agent_broker.enroll.plan import make_plan
from agent_broker.errors import AgentBrokerError, MisuseError, UnavailableError
from tests.fakes.channels import Channels
from tests.fakes.enroll_world import API_KEY, GID, SETTINGS, UID, URL, EnrollWorld

TARGETS = (".claude/settings.json", ".claude/.credentials.json", ".claude.json")


@pytest.fixture
def world():
    world = EnrollWorld().full()
    yield world
    world.close()


def spoil_symlink(path):
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real").name)


def spoil_symlink_to_root(path):
    path.unlink()
    path.symlink_to("/etc/shadow")


def spoil_owner(path):
    os.chown(path, 0, GID)


def spoil_group(path):
    os.chown(path, UID, 0)


def spoil_link_count(path):
    os.link(path, path.with_suffix(".second"))


def spoil_pipe(path):
    path.unlink()
    os.mkfifo(path, 0o600)
    os.chown(path, UID, GID)


def spoil_device(path):
    path.unlink()
    os.mknod(path, 0o020600, os.makedev(1, 5))  # /dev/zero
    os.chown(path, UID, GID)


def spoil_folder(path):
    path.unlink()
    path.mkdir()
    os.chown(path, UID, GID)


def spoil_mode(path):
    path.chmod(0)


def spoil_size(path):
    os.truncate(path, 11 * 1024 * 1024)


def spoil_json(path):
    path.write_text(path.read_text() + "}")


def spoil_text(path):
    path.write_bytes(b"\xff\xfe\x00")


def spoil_root(path):
    path.write_text("[]")


def spoil_keys(path):
    path.write_text('{"a": 1, "a": 2}')


SPOILS = {
    "is a symbolic link": (spoil_symlink, spoil_symlink_to_root),
    "belongs to another user": (spoil_owner,),
    "has a group that the user is not in": (spoil_group,),
    "second name": (spoil_link_count,),
    "not a regular file": (spoil_pipe, spoil_device, spoil_folder),
    "can't be read by the user": (spoil_mode,),
    "too big": (spoil_size,),
    "not JSON": (spoil_json,),
    "UTF-8": (spoil_text,),
    "not an object": (spoil_root,),
    "same key twice": (spoil_keys,),
}


def assert_untouched(world, before):
    assert world.snapshot() == before
    assert world.store.records == {}
    assert world.registered() == []
    assert world.watch.reloads == 0


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("says", "spoil"), [(says, spoil) for says, each in SPOILS.items() for spoil in each])
def test_a_file_that_may_not_be_touched(world, target, says, spoil):
    plan = world.plan()
    spoil(world.home / target)
    before = world.snapshot()
    for attempt in (world.plan, lambda: apply_plan(plan, world.site(), injection_url=URL)):
        with pytest.raises(MisuseError, match=says) as caught:
            attempt()
        assert str(world.home / target) in caught.value.message
        assert caught.value.next_step
        assert API_KEY not in caught.value.explain()
    assert_untouched(world, before)
    assert world.journals() == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ('{"env": []}', "env is not an object"),
        ('{"env": {"ANTHROPIC_API_KEY": 7}}', "env.ANTHROPIC_API_KEY is not a string"),
        ('{"env": {"ANTHROPIC_API_KEY": ["x"]}}', "env.ANTHROPIC_API_KEY is not a string"),
    ],
)
def test_settings_of_another_shape(world, settings, says):
    world.make(world.settings, settings)
    with pytest.raises(MisuseError, match=says):
        world.plan()


def test_a_login_of_another_shape(world):
    world.make(world.credentials, '{"claudeAiOauth": "x"}')
    with pytest.raises(MisuseError, match="claudeAiOauth is not an object"):
        world.plan()


def spoil_claude_missing(world):
    world.claude.rename(world.home / "elsewhere")


def spoil_claude_link(world):
    spoil_claude_missing(world)
    world.claude.symlink_to("elsewhere")


def spoil_claude_file(world):
    spoil_claude_missing(world)
    world.make(world.claude, "x")


def spoil_claude_owner(world):
    os.chown(world.claude, 0, 0)


def spoil_claude_read_only(world):
    world.claude.chmod(0o500)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_claude_missing, "does not exist"),
        (spoil_claude_link, "symbolic link"),
        (spoil_claude_file, "not a folder"),
        (spoil_claude_owner, "belongs to another user"),
        (spoil_claude_read_only, "can't write"),
    ],
)
def test_a_folder_that_may_not_be_touched(world, spoil, says):
    spoil(world)
    before = world.snapshot()
    with pytest.raises(MisuseError, match=says):
        world.plan()
    assert_untouched(world, before)


def test_a_home_that_the_user_can_not_write_to(world):
    world.home.chmod(0o500)
    with pytest.raises(MisuseError, match="can't write"):
        world.plan()


@pytest.mark.parametrize(
    ("user", "home", "says"),
    [
        ("0", "home", "runs as root"),
        ("root", "home", "runs as root"),
        ("no-such-user-at-all", "home", "no user"),
        ("99999999999", "home", "no user"),
        (str(UID + 1), "home", "does not belong"),
        (str(UID), "missing", "no home"),
        (str(UID), None, "no entry in the user database"),
    ],
)
def test_an_owner_that_is_none(world, user, home, says):
    with pytest.raises(MisuseError, match=says):
        owner_of(user, world.root / home if home else None)


def test_a_home_that_a_link_leads_to_is_resolved_once(world):
    """The operator's own link is the operator's; what is used from then on is the folder itself."""
    link = world.root / "link"
    link.symlink_to("home")
    assert owner_of(str(UID), link).home == str(world.home)


def test_a_home_that_becomes_a_link_is_not_followed(world):
    owner = world.owner
    world.home.rename(world.root / "moved")
    world.home.symlink_to("moved")
    with pytest.raises(MisuseError, match="symbolic link"):
        make_plan(world.recipe, owner, registry_dir=world.site().registry_dir, binaries=(world.binary,))


def test_no_credential_at_all(world):
    world.make(world.settings, "{}")
    world.make(world.config, "{}")
    world.credentials.unlink()
    with pytest.raises(MisuseError, match="no credential") as caught:
        world.plan()
    assert "log in" in caught.value.next_step


@pytest.mark.parametrize("target", TARGETS)
def test_a_file_that_changes_after_the_plan(world, target):
    plan = world.plan()
    path = world.home / target
    path.write_bytes(path.read_bytes() + b" ")
    before = world.snapshot()
    with pytest.raises(MisuseError, match="changed since the plan"):
        apply_plan(plan, world.site(), injection_url=URL)
    assert_untouched(world, before)


def test_a_file_that_is_replaced_by_an_equal_one_after_the_plan(world):
    plan = world.plan()
    world.make(world.settings, SETTINGS, mode=0o644)
    with pytest.raises(MisuseError, match="changed since the plan"):
        apply_plan(plan, world.site(), injection_url=URL)


def test_a_file_that_appears_after_the_plan(world):
    world.credentials.unlink()
    plan = world.plan()
    world.make(world.credentials, '{"claudeAiOauth": {"accessToken": "new"}}')
    before = world.snapshot()
    with pytest.raises(MisuseError, match="changed since the plan"):
        apply_plan(plan, world.site(), injection_url=URL)
    assert_untouched(world, before)


@pytest.mark.parametrize(
    ("step", "rewrite"),
    [
        ("journal: rewriting", "in place"),
        ("staged .claude/settings.json", "in place"),
        ("staged .claude/settings.json", "by rename"),
        ("staged .claude/settings.json", "by link"),
    ],
)
def test_a_file_that_its_owner_writes_in_the_middle_wins(world, step, rewrite):
    """As the agent may do: the newer version stays, everything else is undone."""
    newer = SETTINGS.replace("opus", "sonnet")
    before = world.snapshot()

    def write(name):
        if name == step and rewrite == "in place":
            world.settings.write_text(newer)
        elif name == step and rewrite == "by rename":
            world.make(world.claude / "tmp", newer, mode=0o644).rename(world.settings)
        elif name == step:
            world.settings.unlink()
            world.settings.symlink_to("/etc/hostname")

    with pytest.raises(AgentBrokerError, match="changed by somebody else") as caught:
        world.enroll(write)
    after = world.snapshot()
    if rewrite == "by link":
        assert "--recover" in caught.value.explain()  # what is there now may not be touched: a person has to look
        assert world.settings.is_symlink()
        assert world.store.holds(API_KEY.encode())
        world.settings.unlink()
        world.recover()
        assert world.settings.read_text() == SETTINGS
        return
    assert world.settings.read_text() == newer
    assert {k: v for k, v in after.items() if k != ".claude/settings.json"} == {
        k: v for k, v in before.items() if k != ".claude/settings.json"
    }
    assert world.store.records == {}
    assert world.journals() == []


def test_a_made_file_that_somebody_makes_first(world):
    world.credentials.unlink()

    def make(name):
        if name == "staged .claude/.credentials.json":
            world.make(world.credentials, '{"claudeAiOauth": {"accessToken": "theirs"}}')

    with pytest.raises(MisuseError, match="changed by somebody else"):
        world.enroll(make)
    assert json.loads(world.credentials.read_text()) == {"claudeAiOauth": {"accessToken": "theirs"}}
    assert world.settings.read_text() == SETTINGS


def acting_processes():
    """Pids of our children that act as the user."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            command = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if lines["PPid"] == str(os.getpid()) and b"agent_broker.enroll.user_process" in command:
            yield int(lines["Pid"]), lines


def test_the_process_that_acts_as_the_user_is_not_the_users_to_look_into(world):
    seen = []

    def look(name):
        if name == "staged .claude/settings.json":
            ((pid, lines),) = acting_processes()
            seen.append((lines["Uid"], lines["Gid"], lines["Groups"], lines["NoNewPrivs"], lines["CapEff"]))
            seen.append([Path(f"/proc/{pid}/{name}").stat().st_uid for name in ("mem", "environ", "maps")])
            seen.append(Path(f"/proc/{pid}/environ").read_bytes())

    world.enroll(look)
    assert seen == [
        (f"{UID}\t{UID}\t{UID}\t{UID}", f"{GID}\t{GID}\t{GID}\t{GID}", f"{GID} ", "1", "0" * 16),
        [0, 0, 0],  # not dumpable: its /proc belongs to root
        b"",
    ]


@pytest.mark.parametrize("step", ["journal: sealing", "staged .claude.json", "swapped .claude.json"])
def test_the_user_kills_the_process_that_acts_for_them(world, step):
    before = world.snapshot()

    def kill(name):
        if name == step:
            for pid, _ in acting_processes():
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(UnavailableError, match="stopped or killed"):
        world.enroll(kill)
    assert world.snapshot() == before
    assert world.store.records == {}
    assert world.journals() == []


def test_the_user_stops_the_process_that_acts_for_them(world, monkeypatch):
    monkeypatch.setattr(user_channel, "END_S", 0.1)
    channels, stopped = Channels(monkeypatch), []
    before = world.snapshot()

    def stop(name):
        if name == "staged .claude.json":
            for pid, _ in acting_processes():
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
            channels.grow_impatient()

    alive = []
    remove_agent = world.store.remove_agent
    monkeypatch.setattr(
        world.store, "remove_agent", lambda *who: (alive.extend(acting_processes()), remove_agent(*who))
    )
    with pytest.raises(UnavailableError, match="stopped or killed"):
        world.enroll(stop)
    assert len(stopped) == 1
    assert alive == []  # it has the exchange in its queue: continued later, it would swap the original out
    assert world.snapshot() == before
    assert world.journals() == []
    assert list(acting_processes()) == []
