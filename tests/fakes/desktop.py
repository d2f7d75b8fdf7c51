"""A real desktop without a screen: Xvfb, dbus-daemon and dunst, all as one user; what dunst showed can be asked for."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jeepney import DBusAddress, new_method_call
from jeepney.io.blocking import open_dbus_connection

from tests.e2e.patience import listens

_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
"""  # session.conf of Debian's dbus, without the services that start by themselves
_OBJECT = ("/org/freedesktop/Notifications", "org.freedesktop.Notifications")
_DUNST = DBusAddress(*_OBJECT, "org.dunstproject.cmd0")


class RealDesktop:
    """Of one user; ``start_notifications`` starts what shows them."""

    def __init__(self, folder: Path, uid: int) -> None:
        self.uid = uid
        self._folder = folder
        self._processes: list[subprocess.Popen] = []
        self._notifications: subprocess.Popen | None = None
        reader, writer = os.pipe()
        self._run(["Xvfb", "-displayfd", str(writer), "-nolisten", "tcp", "-ac", "-screen", "0", "640x480x24"], writer)
        os.close(writer)
        with os.fdopen(reader) as said:
            self._display = f":{said.readline().strip()}"
        (folder / "bus.conf").write_text(_BUS.format(path=folder / "bus"))
        self._run(["dbus-daemon", f"--config-file={folder / 'bus.conf'}", "--nofork"])
        while not listens(folder / "bus"):
            time.sleep(0.01)

    @property
    def address(self) -> str:
        return f"unix:path={self._folder / 'bus'}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "HOME": str(self._folder),
            "DBUS_SESSION_BUS_ADDRESS": self.address,
            "DISPLAY": self._display,
            "XDG_STATE_HOME": str(self._folder / "state"),
        }

    def start_notifications(self, markup: str = "full") -> None:
        """``markup``: dunst's own option; ``no`` shows every text as it is."""
        (self._folder / "dunstrc").write_text(f"[global]\nmarkup = {markup}\nhistory_length = 100\n")
        self._notifications = self._run(["dunst", "-config", str(self._folder / "dunstrc")])
        while "org.freedesktop.Notifications" not in self._ask("ListNames"):
            assert self._notifications.poll() is None
            time.sleep(0.01)

    def stop_notifications(self) -> None:
        self._notifications.kill()
        self._notifications.wait()

    def shown(self) -> list[dict[str, object]]:
        """What dunst shows and has shown, oldest first."""
        self._call(new_method_call(_DUNST, "NotificationCloseAll"))
        (history,) = self._call(new_method_call(_DUNST, "NotificationListHistory"))
        plain = [{key: value for key, (_, value) in each.items()} for each in history]
        return sorted(plain, key=lambda each: each["timestamp"])

    def count(self) -> int:
        """How many it has shown; it shows none after this."""
        return len(self.shown())

    def remembered(self) -> str:
        """What this user's follower has written down."""
        return (self._folder / "state/agent-broker/notified.json").read_text()

    def end(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()

    def _ask(self, method: str):
        bus = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
        return self._call(new_method_call(bus, method))[0]

    def _call(self, message) -> tuple:
        """As the bus's own user, whom alone it lets in."""
        os.seteuid(self.uid)
        try:
            with open_dbus_connection(self.address) as connection:
                return connection.send_and_get_reply(message, timeout=20).body
        finally:
            os.seteuid(0)

    def _run(self, command: list[str], *fds: int) -> subprocess.Popen:
        environment = self.environment if len(self._processes) else dict(os.environ)
        process = subprocess.Popen(
            command, user=self.uid, group=self.uid, extra_groups=[], env=environment, cwd="/", pass_fds=fds,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._processes.append(process)
        return process


@contextmanager
def real_desktop(uid: int) -> Iterator[RealDesktop]:
    with tempfile.TemporaryDirectory(prefix="desktop-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        os.chown(folder, uid, uid)
        desktop = RealDesktop(Path(folder), uid)
        try:
            yield desktop
        finally:
            desktop.end()
