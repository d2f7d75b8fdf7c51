"""Managed settings for every user of the machine, against the hostile repository; in the real /etc of this process.

The process has a mount namespace of its own (main.py): what is written below the world's root lies at /etc/claude-code
for it and for what it starts, and nowhere else. The cover over /etc is gone before a user is deleted from it.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.demo.machine import run_tool
from tests.demo.processes import BROKER, broker_command
from tests.e2e.accounts.repository import Thief, clone, taken
from tests.e2e.accounts.stage import Stage

_PLACE = Path("/etc/claude-code")
_SETTINGS = "managed-settings.json"
_OWN = '{\n  "cleanupPeriodDays": 7 ,\n\t"env":{"EDITOR": "vi"}\n}\n'
_SET = """
import sys
from pathlib import Path
from agent_broker.cli import managed
from agent_broker.cli.main import main
managed.SHIM = Path(sys.argv[1])
sys.exit(main(sys.argv[2:]))
"""


def managed(stage: Stage) -> dict[str, object]:
    """Set them over a file that is there, work in the repository, and put them back."""
    folder = stage.world.root / "etc/claude-code"
    folder.mkdir(parents=True)
    file = folder / _SETTINGS
    file.write_text(_OWN)
    with _covered_etc(stage.world.root / "cover"):
        _PLACE.mkdir(exist_ok=True)
        run_tool("mount", "--bind", str(folder), str(_PLACE))
        return _play(stage, file)


@contextlib.contextmanager
def _covered_etc(cover: Path) -> Iterator[None]:
    """Have an /etc that can be written to without writing to it."""
    cover.mkdir()
    run_tool("mount", "-t", "tmpfs", "none", str(cover))
    for name in ("upper", "work"):
        (cover / name).mkdir()
    layers = f"lowerdir=/etc,upperdir={cover}/upper,workdir={cover}/work"
    run_tool("mount", "-t", "overlay", "overlay", "-o", layers, "/etc")
    try:
        yield
    finally:
        run_tool("umount", "--lazy", "--recursive", "/etc")
        run_tool("umount", "--lazy", str(cover))


def _play(stage: Stage, file: Path) -> dict[str, object]:
    thief = Thief()
    project, loot = clone(stage, thief, "cloned-again")
    told: dict[str, object] = {}
    phantom = stage.phantom_of(stage.person)
    file.write_text(_OWN.replace("7 ,", "7 , // a week"))
    told["with a comment"] = msgspec.to_builtins(stage.claude())
    told["set with a comment"] = _set(stage).stderr
    file.write_text(_OWN)
    told["set"] = _set(stage).returncode
    for name, turn in (("managed", stage.claude), ("managed and run", stage.run_claude)):
        thief.got.clear()
        seen = turn(folder=project)
        got = taken(loot)
        told[name] = msgspec.to_builtins(seen) | {
            "thief_was_asked": bool(thief.got),
            "helper_ran": any(each.startswith("helper") for each in got),
            "thief_has_key": any(key in each for key in stage.keys.values() for each in (*thief.got, *got)),
        }
    thief.shutdown()
    thief.server_close()
    told["phantom stays"] = stage.phantom_of(stage.person) == phantom
    broker_command(stage.world.root, "managed", "remove", "--yes")
    told["as it was"] = file.read_text() == _OWN
    told["afterwards"] = msgspec.to_builtins(stage.claude())
    told["twice"] = subprocess.run(
        [BROKER, "--root", stage.world.root, "managed", "remove", "--yes"], capture_output=True, check=False
    ).returncode
    return told


def _set(stage: Stage) -> "subprocess.CompletedProcess[str]":
    """Set them, with the shim where a package would have put it: the user may not be able to enter the checkout."""
    words = [str(stage.world.shim), "--root", str(stage.world.root), "managed", "set", "--yes"]
    return subprocess.run([sys.executable, "-c", _SET, *words], capture_output=True, text=True, check=False)
