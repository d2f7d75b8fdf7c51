"""A file on the bench's stage that is a view, with one program as its reader."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from agent_broker.identity.registry import Enrollment, RoleRule, Serving, remove_enrollment, save_enrollment
from agent_broker.identity.viewed import ViewedFile, remove_viewed, save_viewed
from agent_broker.ids import AgentName
from agent_broker.monitor.view_mount import is_mounted
from tests.bench.figures import CannotMeasureError
from tests.bench.stage import OWNER, Stage, enrolled

REAL, DECOY = b"REAL" + b"r" * 300, b"FAKE" + b"f" * 300
_READER = AgentName("reader.bench")
_VIEWED = ViewedFile(AgentName("file.bench"), OWNER, OWNER, "bench", "/nowhere", "bench", (_READER,))
_POLICY = '[[rule]]\nsession = "user"\ncredential = "file.bench/{owner}/content"\nmodes = ["view"]\n'
_MOUNT_S = 60


@contextlib.contextmanager
def viewed_file(stage: Stage, reader: Path) -> Iterator[str]:
    """Give the path of a view whose real content this program of the owner's reads; both daemons run meanwhile."""
    stage.have(monitor=True, broker=True)
    role = RoleRule(argv0_names=(reader.name,))
    tool = Enrollment(_READER, OWNER, "bench", (enrolled(reader),), role, (), (), time.time_ns(), serving=Serving(""))
    layout = stage.layout
    rule = layout.policy_folder / "view.toml"
    layout.tools_folder.mkdir(parents=True, exist_ok=True)
    save_enrollment(layout.tools_folder, tool)
    rule.write_text(_POLICY.format(owner=OWNER))
    save_viewed(layout.files_folder, _VIEWED)
    try:
        _fill(stage)
        _wait(stage)
        yield _VIEWED.target(layout.view_folder)
    finally:
        remove_viewed(layout.files_folder, _VIEWED)
        remove_enrollment(layout.tools_folder, tool)
        rule.unlink()
        _reload(stage)


def _fill(stage: Stage) -> None:
    # imported late: see tests.bench.daemons
    from agent_broker.transport.control_client import ControlClient  # noqa: PLC0415
    from agent_broker.vault.secret import Secret  # noqa: PLC0415
    from agent_broker.view.content import attributes_of  # noqa: PLC0415

    with ControlClient(stage.layout.admin_socket) as client:
        client.put_credential(_VIEWED.content_id, "viewed-file", Secret(REAL), attributes_of(len(REAL), 0o600))
        client.put_credential(_VIEWED.decoy_id, "viewed-decoy", Secret(DECOY), {})
        client.reload()


def _reload(stage: Stage) -> None:
    from agent_broker.transport.control_client import ControlClient  # noqa: PLC0415 - see tests.bench.daemons

    with ControlClient(stage.layout.admin_socket) as client:
        client.reload()


def _wait(stage: Stage) -> None:
    end_s = time.monotonic() + _MOUNT_S
    while not is_mounted(stage.layout.view_folder):
        if time.monotonic() > end_s:
            raise CannotMeasureError(f"the file view is not mounted; FUSE is there: {Path('/dev/fuse').exists()}")
        time.sleep(0.01)
