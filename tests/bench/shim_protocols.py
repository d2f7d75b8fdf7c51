"""The shim as each tool runs it: exec, connect, ask, print, exit; one at a time, and 64 at once.

The tool is a copy of the C driver that starts shims and empty processes in turn, enrolled under the tool's name and
with its own rule. So each answer is a released secret: attested twice, decided, unsealed, and journalled durably
before it leaves. ``shim_process`` times the shim that releases nothing.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator

from agent_broker.identity.registry import Enrollment, RoleRule, Serving, remove_enrollment, save_enrollment
from agent_broker.ids import AgentName, CredentialId
from tests.bench.figures import Figure, ms, p50, p99
from tests.bench.protocols import PROTOCOLS, Protocol
from tests.bench.stage import OWNER, SHIM, Stage, enrolled

_WARM_UP = 20
_ROUNDS = 400
_AT_ONCE = 64
_CROWDS = 25


def run(stage: Stage) -> list[Figure]:
    stage.have(monitor=True, broker=True)
    return [figure for protocol in PROTOCOLS for figure in _measure(stage, protocol)]


def _measure(stage: Stage, protocol: Protocol) -> list[Figure]:
    with _enrolled(stage, protocol):
        _spawn(stage, protocol, _WARM_UP)
        empty, shim = _spawn(stage, protocol, _ROUNDS)
        none, crowd = _spawn(stage, protocol, _CROWDS, at_once=_AT_ONCE)
    tool = protocol.tool
    return [
        Figure(f"shim-{tool}", p50(shim) / p50(empty), f"{ms(p50(shim))} / {ms(p50(empty))}, {_ROUNDS} each"),
        Figure(f"shim-{tool}-p99", p99(shim) / p99(empty), f"{ms(p99(shim))} / {ms(p99(empty))}"),
        Figure(f"shims-{tool}", p50(crowd) / p50(none), f"{ms(p50(crowd))} / {ms(p50(none))}, {_CROWDS} each"),
    ]


def _spawn(stage: Stage, protocol: Protocol, rounds: int, *, at_once: int = 1) -> tuple[list[int], list[int]]:
    """Return the nanoseconds of the empty process and of the shim, round by round."""
    asked = stage.folder / "asked"
    asked.write_bytes(protocol.stdin)
    driver = (stage.driver(protocol.tool), "-i", asked, "-n", str(at_once), str(rounds))
    programs = (stage.driver("empty"), "--", stage.driver(SHIM.name), *protocol.command)
    lines = stage.as_owner(*driver, *programs, environment=protocol.environment)
    return [line[0] for line in lines], [line[1] for line in lines]


@contextlib.contextmanager
def _enrolled(stage: Stage, protocol: Protocol) -> Iterator[None]:
    """Have the driver be the tool, with a credential and a rule; not any more afterwards."""
    program = stage.driver(protocol.tool)
    shutil.copy2(stage.driver("spawn"), program)
    role = RoleRule(argv0_names=(protocol.tool,), runtimes=("loader",))
    tool = Enrollment(
        AgentName(protocol.tool), OWNER, "bench", (enrolled(program),), role, (), (), time.time_ns(),
        serving=Serving(str(stage.driver(SHIM.name))),
    )  # fmt: skip
    rule = stage.layout.policy_folder / f"{protocol.tool}.toml"
    stage.layout.tools_folder.mkdir(parents=True, exist_ok=True)
    save_enrollment(stage.layout.tools_folder, tool)
    rule.write_text(f'[[rule]]\nsession = "user"\ncredential = "{protocol.tool}/{OWNER}/*"\n')
    try:
        _store(stage, protocol)
        yield
    finally:
        remove_enrollment(stage.layout.tools_folder, tool)
        rule.unlink()
        _reload(stage)


def _store(stage: Stage, protocol: Protocol) -> None:
    # imported late: see tests.bench.daemons
    from agent_broker.transport.control_client import ControlClient  # noqa: PLC0415
    from agent_broker.vault.record import DESTINATION_ATTRIBUTE  # noqa: PLC0415
    from agent_broker.vault.secret import Secret  # noqa: PLC0415

    to = {DESTINATION_ATTRIBUTE: protocol.to} if protocol.to else {}
    name = CredentialId(f"{protocol.tool}/{OWNER}/bench")
    with ControlClient(stage.layout.admin_socket) as client:
        client.put_credential(name, f"{protocol.tool}-password", Secret(protocol.secret), {**protocol.attributes, **to})
        client.reload()


def _reload(stage: Stage) -> None:
    from agent_broker.transport.control_client import ControlClient  # noqa: PLC0415 - see tests.bench.daemons

    with ControlClient(stage.layout.admin_socket) as client:
        client.reload()
