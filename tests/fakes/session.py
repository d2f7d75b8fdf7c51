"""A desktop session's Secret Service: a private D-Bus and a real gnome-keyring, unlocked, that end with the test."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={folder}/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


@contextmanager
def session_with_keyring(folder: Path) -> Iterator[str]:
    """Start both below ``folder``; yield the bus's address."""
    (folder / "bus.conf").write_text(_BUS.format(folder=folder))
    address = f"unix:path={folder}/bus"
    places = dict.fromkeys(("HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder))
    environment = {"PATH": os.environ["PATH"], "DBUS_SESSION_BUS_ADDRESS": address, **places}
    bus = _started(["dbus-daemon", f"--config-file={folder}/bus.conf", "--nofork", "--print-address"], environment)
    try:
        bus.stdout.readline()  # it prints its address when it listens
        keyring = _started(["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"], environment)
        try:
            keyring.stdin.write(b"the session's password")
            keyring.stdin.close()
            keyring.stdout.readline()  # it prints its control folder when it has its name on the bus
            yield address
        finally:
            _end(keyring)
    finally:
        _end(bus)


def _started(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    with process:
        process.terminate()
