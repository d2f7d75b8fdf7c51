"""A real dbus-daemon that lets everybody in, with a manager on it that has variables as systemd's has."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Self

_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow send_destination="*" eavesdrop="true"/>
<allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
"""
_MANAGER = """
import json, sys
from jeepney import DBusAddress, MessageType, message_bus, new_method_return
from jeepney.io.blocking import open_dbus_connection
bus, variables = sys.argv[1], json.loads(sys.argv[2])
connection = open_dbus_connection("unix:path=" + bus)
connection.send_and_get_reply(message_bus.RequestName("org.freedesktop.systemd1"))
print("ready", flush=True)
while True:
    message = connection.receive()
    if message.header.message_type is MessageType.method_call:
        connection.send(new_method_return(message, "v", (("as", variables),)))
"""


class SessionBus:
    """A context manager; ``path`` is the socket."""

    def __init__(self, folder: Path, variables: str) -> None:
        self.path = folder / "bus"
        self._folder = folder
        self._variables = variables
        self._processes: list[subprocess.Popen] = []

    def __enter__(self) -> Self:
        (self._folder / "bus.conf").write_text(_CONFIG.format(path=self.path))
        self._start(["/usr/bin/dbus-daemon", f"--config-file={self._folder / 'bus.conf'}", "--nofork"])
        while not self.path.exists():
            time.sleep(0.01)
        self.path.chmod(0o777)
        manager = self._start([sys.executable, "-I", "-c", _MANAGER, str(self.path), self._variables])
        manager.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()
            process.stdout.close()

    def _start(self, words: list[str]) -> subprocess.Popen:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, cwd="/")
        self._processes.append(process)
        return process
