"""Alerts on a real desktop (Xvfb, dbus-daemon, dunst): shown once, in order, as text; who may reach the bus at all."""

import html
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import pytest

from agent_broker.audit.sinks import desktop as desktop_module
from agent_broker.audit.sinks.desktop import MAX_BODY_CHARS, Desktop, session_bus
from agent_broker.cli.notified import Memory, state_file
from agent_broker.errors import UnavailableError
from tests.fakes.control import FakeBroker, ServedBroker, wait_for_followers
from tests.fakes.desktop import real_desktop
from tests.fakes.receivers import an_incident

USER = pwd.getpwnam("nobody").pw_uid
"""dbus-daemon wants a user whom the machine knows."""


@pytest.fixture(scope="module")
def roots_desktop():
    with real_desktop(0) as made:
        made.start_notifications()
        yield made


@pytest.fixture
def desktop(roots_desktop):
    made = Desktop(roots_desktop.address)
    yield made
    made.close()


def body(shown):
    return shown["body"]["data"] if isinstance(shown["body"], dict) else shown["body"]


def test_an_alert_is_shown_with_what_to_do_next(roots_desktop, desktop):
    incident = an_incident(1, next_step="look at it")
    desktop.show(incident)
    shown = roots_desktop.shown()[-1]
    assert shown["summary"] == "agent-broker, critical: decoy opened"
    assert body(shown) == f"incident 1\nlook at it\nagent-broker alert show {incident.id}"
    assert (shown["appname"], shown["timeout"]) == ("agent-broker", 0), "a critical one stays"


def test_a_revision_takes_the_place_of_what_was_shown(roots_desktop, desktop):
    incident, before = an_incident(2), roots_desktop.count()
    desktop.show(incident)
    desktop.show(msgspec.structs.replace(incident, revision=1, what="incident 2, 99 times"))
    assert roots_desktop.count() == before + 1
    assert "99 times" in body(roots_desktop.shown()[-1])


def test_a_long_text_is_cut(roots_desktop, desktop):
    desktop.show(msgspec.structs.replace(an_incident(4), what="x" * 100_000))
    assert len(body(roots_desktop.shown()[-1])) <= MAX_BODY_CHARS + 4


def test_without_a_bus_it_is_not_now(tmp_path):
    with pytest.raises(UnavailableError, match="the desktop shows no notification"):
        Desktop(f"unix:path={tmp_path}/none").show(an_incident())


def test_a_bus_that_accepts_and_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(desktop_module, "_TIMEOUT_S", 0.05)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "bus"))
        mute.listen()
        with pytest.raises(UnavailableError, match="the desktop shows no notification: TimeoutError"):
            Desktop(f"unix:path={tmp_path}/bus").show(an_incident())


@pytest.mark.parametrize(("uid", "is_let_in"), [(0, False), (64_123, False), (USER, True)])
def test_a_session_bus_lets_only_its_own_user_in(uid, is_let_in):
    """The fact that decides the design: neither root nor the broker's user can be a sink there."""
    with real_desktop(USER) as desktop:
        desktop.start_notifications()
        os.seteuid(uid)
        try:
            someone = Desktop(desktop.address)
            if is_let_in:
                someone.show(an_incident(1))
            else:
                with pytest.raises(UnavailableError, match="the desktop shows no notification"):
                    someone.show(an_incident(1))
            someone.close()
        finally:
            os.seteuid(0)
        assert desktop.count() == int(is_let_in)


@pytest.mark.parametrize("markup", ["full", "no"])
def test_what_an_attacker_wrote_is_text(markup):
    """Escaped for what would obey it, as it is for what would not."""
    text = "opened </b><img src='x'><a href='y'>&amp;"
    with real_desktop(0) as desktop:
        desktop.start_notifications(markup)
        someone = Desktop(desktop.address)
        someone.show(msgspec.structs.replace(an_incident(3), what=text))
        someone.close()
        (shown,) = desktop.shown()
    assert body(shown).splitlines()[0] == (html.escape(text, quote=False) if markup == "full" else text)


def test_where_the_bus_is():
    assert session_bus({"DBUS_SESSION_BUS_ADDRESS": "unix:path=/x"}, 1) == "unix:path=/x"
    assert session_bus({}, 1000) == "unix:path=/run/user/1000/bus"


@pytest.fixture
def world():
    return FakeBroker()


@pytest.fixture
def served(world):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with ServedBroker(world, Path(folder), read_gid=USER) as broker:
            yield broker


class Notify:
    """``agent-broker notify`` as the desktop's user."""

    def __init__(self, served, desktop, *options):
        program = "import sys; from agent_broker.cli.main import main; sys.exit(main(sys.argv[1:]))"
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, "--root", served.layout.root, "notify", *options],
            user=USER, group=USER, extra_groups=[], env=desktop.environment, cwd="/",
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def says(self, text):
        while text not in (line := self.process.stderr.readline()):
            assert line, "it ended"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait() == 130
        self.process.stderr.close()


def until(is_so):
    while not is_so():
        time.sleep(0.02)


def mine(number, severity="critical", uid=USER):
    incident = an_incident(number, severity)
    steps = tuple(
        msgspec.structs.replace(step, image=msgspec.structs.replace(step.image, uid=uid)) for step in incident.lineage
    )
    return msgspec.structs.replace(incident, lineage=steps)


def firsts(desktop):
    return [body(each).splitlines()[0] for each in desktop.shown()]


def test_a_person_sees_each_alert_once_in_order_across_restarts(world, served):
    """Down are, in turn: what shows notifications, that again, and the follower."""
    with real_desktop(USER) as desktop:
        world.publish(mine(0))  # before anybody ever followed: not news
        with Notify(served, desktop) as notify:
            notify.says("showing alerts")
            world.publish(mine(1))
            notify.says("nobody shows notifications")
            desktop.start_notifications()
            world.publish(mine(2, "info"))
            world.publish(mine(3, uid=4711))
            world.publish(mine(4))
            until(lambda: desktop.count() == 2)
            assert firsts(desktop) == ["incident 1", "incident 4"]
            desktop.stop_notifications()
            world.publish(mine(5))
            world.publish(last := mine(6))
            notify.says("start the desktop's notification service")
            desktop.start_notifications()
            until(lambda: desktop.count() == 2)
            assert firsts(desktop) == ["incident 5", "incident 6"]
            until(lambda: last.id in desktop.remembered())  # the one in flight would come again
        wait_for_followers(world, 0)
        for number in range(7, 7 + 12):
            world.publish(mine(number))
        with Notify(served, desktop) as notify:
            notify.says("showing alerts")
            until(lambda: desktop.count() == 2 + 6)
            shown = desktop.shown()
        assert shown[2]["summary"] == "agent-broker: 7 earlier alerts"
        assert [body(each).splitlines()[0] for each in shown[3:]] == [f"incident {n}" for n in range(14, 19)]


def test_options_and_configuration_choose_what_is_shown(world, served):
    served.layout.config_folder.mkdir(parents=True)
    served.layout.config_file.write_text("[alerts.desktop]\nseverity = 'critical'\n")
    for options, expected in (
        ((), ["incident 2"]),
        (("--severity", "info"), ["incident 0", "incident 1", "incident 2"]),
        (("--severity", "warning", "--all-users"), ["incident 1", "incident 2", "incident 3"]),
    ):
        with real_desktop(USER) as desktop, Notify(served, desktop, *options) as notify:
            desktop.start_notifications()
            notify.says("showing alerts")
            for number, severity in enumerate(("info", "warning", "critical")):
                world.publish(mine(number, severity))
            world.publish(mine(3, uid=4711))
            world.publish(mine(4))  # the last: what came before it was shown, or never will be
            until(lambda shown=desktop: shown.count() and firsts(shown)[-1] == "incident 4")
            assert firsts(desktop)[:-1] == expected
        wait_for_followers(world, 0)


def test_what_came_too_fast_for_the_stream_is_shown_all_the_same(world, served):
    world.follower_capacity = 1
    with real_desktop(USER) as desktop, Notify(served, desktop) as notify:
        desktop.start_notifications()
        notify.says("showing alerts")
        for number in range(5):
            world.publish(mine(number))
        until(lambda: desktop.count() == 5)
        assert firsts(desktop) == [f"incident {number}" for number in range(5)]


def test_who_is_not_in_the_brokers_group_is_refused(world, tmp_path):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with ServedBroker(world, Path(folder), read_gid=0) as broker, real_desktop(USER) as desktop:
            notify = Notify(broker, desktop)
            said = notify.process.communicate()[1]
            assert notify.process.returncode == 3
            assert "as a member of the group agent-broker" in said


def test_root_is_told_to_be_himself(served):
    program = "import sys; from agent_broker.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", program, "--root", served.layout.root, "notify"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "run it without sudo" in done.stderr


def test_a_follower_remembers_revisions_and_forgets_nothing_between(tmp_path):
    path = state_file({"XDG_STATE_HOME": str(tmp_path)}, Path("/home/u"))
    assert state_file({"XDG_STATE_HOME": "relative"}, Path("/home/u")).is_relative_to("/home/u/.local/state")
    incidents = tuple(an_incident(number) for number in range(200))
    assert Memory(path).missed(()) == ()
    assert Memory(path).missed(incidents) == incidents, "it was there before the first"
    path.unlink()
    assert Memory(path).missed(incidents[:3]) == ()
    assert Memory(path).missed(incidents) == incidents[3:]
    memory = Memory(path)
    for each in incidents[3:150]:
        memory.tell(each)
    assert not memory.is_new(incidents[3])
    grown = msgspec.structs.replace(incidents[149], revision=1)
    assert memory.is_new(grown)
    again = Memory(path)
    assert again.missed((*incidents[:149], *incidents[150:], grown)) == (*incidents[150:], grown)
    assert again.missed(incidents[160:]) == incidents[160:]
    (tmp_path / "file").touch()
    homeless = Memory(tmp_path / "file/state/notified.json")
    with pytest.raises(UnavailableError, match="can't be made"):
        homeless.tell(incidents[0])
    assert not homeless.is_new(incidents[0]), "not shown again and again"
    path.write_bytes(b"nonsense")
    assert Memory(path).missed(incidents) == ()
