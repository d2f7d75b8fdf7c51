"""The shim as an installation has it: compiled from source with the shipped flags, called by its names."""

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "shims"
PHANTOM_HELPER = "claude-api-key-helper"


@functools.cache
def compiled(
    *definitions: str, server_uid: int | None = None, source: str = "client.c", name: str = "agent-broker-shim"
) -> Path:
    """Return the binary, compiled once a test run for each set of ``-D`` definitions.

    The server must be this user's own, since tests need not run as root; as root that is the shipped rule.
    """
    folder = Path(tempfile.mkdtemp(prefix="shim-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    binary = folder / name
    wanted = (f"SERVER_UID={os.geteuid() if server_uid is None else server_uid}", *definitions)
    command = ["cc", f"@{SOURCE / 'cc.flags'}", *(f"-D{d}" for d in wanted), "-o", binary, SOURCE / source]
    subprocess.run(command, check=True, cwd=SOURCE)
    return binary


def start(
    *arguments: str | bytes,
    root: Path | str,
    name: str = "agent-broker-shim",
    binary: Path | None = None,
    env: dict[str, str] | None = None,
    **pipes: object,
):
    """Start the shim under ``name`` against the broker below ``root``."""
    return subprocess.Popen(
        [name, *arguments],
        executable=binary or compiled(),
        env={"AGENT_BROKER_ROOT": str(root), **(env or {})},
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **pipes},
    )


def finish(process: subprocess.Popen[bytes], stdin: bytes | None = None) -> tuple[int, bytes, bytes]:
    """Return exit code, stdout and stderr of a shim that was started."""
    out, err = process.communicate(stdin)
    return process.returncode, out, err
