"""A second account of Claude Code's, with a folder of its own, as an administrator adds it."""

import secrets
import subprocess
from pathlib import Path

from msgspec import Struct

from tests.demo.check import require
from tests.demo.processes import BROKER, outcome
from tests.demo.run_claude import TURN_S
from tests.demo.world import World
from tests.e2e.attacks.more import give_to_user

_NAME = "other"
_SAY = f"exec $0 phantom claude {_NAME}"


class OtherAccount(Struct, frozen=True):
    """What there is to be stolen, and where it is used."""

    key: str
    phantom: str
    folder: Path


def add_other(world: World) -> OtherAccount:
    """Add it; its phantom is what any process of the user can ask for."""
    folder = world.home / "other-account"
    folder.mkdir()
    give_to_user(world, folder)
    key = f"sk-ant-api03-{secrets.token_urlsafe(60)}"
    whose = ("--user", world.user.pw_name, "--dir", str(folder))
    done = subprocess.run(
        [BROKER, "--root", world.root, "account", "add", "claude", _NAME, *whose],
        input=key, capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    require(done.returncode == 0, "an account to be added", done.stderr)
    said = outcome(world.start_as_user("/bin/sh", "-c", _SAY, str(world.shim)), TURN_S)[0].strip()
    require(said.startswith("agent-broker-phantom-"), "a phantom of the account", said[:20])
    return OtherAccount(key, said, folder)
