"""A signature by our agent and by OpenSSH's own: ``ssh-keygen -Y sign``, the whole process, and the request alone.

The same C driver has both do it in turn, with the same key, by the user nobody: ssh-keygen wants one that the user
database knows. The broker decides, journals durably and attests twice for each; ssh-agent checks the user. The request
alone is on a kept connection, by a driver that is enrolled beside ssh-keygen.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent_broker.identity.registry import Enrollment, RoleRule, Serving, remove_enrollment, save_enrollment
from agent_broker.ids import AgentName, CredentialId, Uid
from tests.bench.drivers import numbers
from tests.bench.drivers import run as run_driver
from tests.bench.figures import CannotMeasureError, Figure, ms, p50, p99, us
from tests.bench.stage import Stage, enrolled

_OWNER = Uid(65534)
_PROGRAM = Path("/usr/bin/ssh-keygen")
_KINDS = {"ed25519": 400, "rsa": 200}
_REQUESTS = 1000
_WARM_UP = 20
_FLAGS = {"ed25519": 0, "rsa": 4}
"""As OpenSSH asks: rsa-sha2-512."""
_SHA512_BYTES = 64
_SIGNER = "signer"
_POLICY = '[[rule]]\nsession = "user"\ncredential = "ssh/{owner}/*"\n'
_START_S = 10


def run(stage: Stage) -> list[Figure]:
    stage.have(monitor=True, broker=True)
    folder = stage.folder / "ssh"
    folder.mkdir()
    os.chown(folder, _OWNER, _OWNER)
    keys = {kind: _make_key(folder, kind) for kind in _KINDS}
    with _tool(stage), _openssh_agent(folder, keys.values()) as theirs:
        requests = {kind: _request(folder, kind, key) for kind, key in keys.items()}
        _move_keys(stage, keys)
        figures = []
        for kind, key in keys.items():
            figures += [_of_process(stage, kind, key, theirs), _of_request(stage, kind, requests[kind], theirs)]
    return figures


def _of_process(stage: Stage, kind: str, key: Path, theirs: Path) -> Figure:
    ours, other = _measure(stage, kind, key, theirs)
    p99s = f"p99 {ms(p99(ours))} / {ms(p99(other))}"
    detail = f"{ms(p50(ours))} / {ms(p50(other))}, {_KINDS[kind]} each; {p99s}"
    return Figure(f"ssh-sign-{kind}", p50(ours) / p50(other), detail)


def _of_request(stage: Stage, kind: str, request: Path, theirs: Path) -> Figure:
    for rounds in (_WARM_UP, _REQUESTS):
        command = (stage.driver(_SIGNER), str(rounds), request, stage.layout.sign_socket, theirs)
        lines = numbers(run_driver(command, uid=_OWNER))
    ours, other = [line[0] for line in lines], [line[1] for line in lines]
    p99s = f"p99 {us(p99(ours))} / {us(p99(other))}"
    detail = f"{us(p50(ours))} / {us(p50(other))}, {_REQUESTS} each; {p99s}"
    return Figure(f"ssh-request-{kind}", p50(ours) / p50(other), detail)


def _request(folder: Path, kind: str, key: Path) -> Path:
    """Write what asks for one signature over a file: SSH_AGENTC_SIGN_REQUEST, of what PROTOCOL.sshsig says."""
    # imported late: see tests.bench.daemons
    from agent_broker.ssh.keys import blob_of_line  # noqa: PLC0415
    from agent_broker.ssh.messages import SIGN  # noqa: PLC0415
    from agent_broker.ssh.wire import number, string  # noqa: PLC0415

    blob, _ = blob_of_line(key.with_name(f"{key.name}.pub").read_text().strip())
    signed = b"SSHSIG" + string(b"file") + string(b"") + string(b"sha512") + string(bytes(_SHA512_BYTES))
    path = folder / f"{kind}.request"
    path.write_bytes(string(bytes([SIGN]) + string(blob) + string(signed) + number(_FLAGS[kind])))
    return path


def _measure(stage: Stage, kind: str, key: Path, theirs: Path) -> tuple[list[int], list[int]]:
    def command(socket: Path) -> tuple[str | Path, ...]:
        public = key.with_name(f"{key.name}.pub")
        return ("/usr/bin/env", f"SSH_AUTH_SOCK={socket}", _PROGRAM, "-Y", "sign", "-n", "file", "-f", public)

    programs = (*command(stage.layout.sign_socket), "--", *command(theirs))
    for rounds in (_WARM_UP, _KINDS[kind]):
        lines = numbers(run_driver([stage.driver("spawn"), str(rounds), *programs], uid=_OWNER))
    return [line[0] for line in lines], [line[1] for line in lines]


def _make_key(folder: Path, kind: str) -> Path:
    path = folder / kind
    _as_owner("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", kind, "-f", str(path))
    return path


def _move_keys(stage: Stage, keys: dict[str, Path]) -> None:
    # imported late: see tests.bench.daemons
    from agent_broker.ssh.binding import Limits  # noqa: PLC0415
    from agent_broker.ssh.keys import blob_of_line, load_private_key, sealed_form  # noqa: PLC0415
    from agent_broker.ssh.record import KIND, KeyFacts  # noqa: PLC0415
    from agent_broker.transport.control_client import ControlClient  # noqa: PLC0415
    from agent_broker.vault.secret import Secret  # noqa: PLC0415

    with ControlClient(stage.layout.admin_socket) as client:
        for name, path in keys.items():
            facts = KeyFacts(*blob_of_line(path.with_name(f"{path.name}.pub").read_text().strip()), Limits())
            secret = Secret(sealed_form(load_private_key(path.read_bytes())))
            client.put_credential(CredentialId(f"ssh/{_OWNER}/{name}"), KIND, secret, facts.attributes())
            path.unlink()
        client.reload()


@contextlib.contextmanager
def _tool(stage: Stage) -> Iterator[None]:
    """Have ssh-keygen and the driver enrolled, with a rule; not any more afterwards."""
    programs = (_PROGRAM, stage.driver(_SIGNER))
    role = RoleRule(argv0_names=tuple(each.name for each in programs), runtimes=("loader", "sasl"))
    tool = Enrollment(
        AgentName("ssh"), _OWNER, "nobody", tuple(map(enrolled, programs)), role, (), (), time.time_ns(),
        serving=Serving(""),
    )  # fmt: skip
    rule = stage.layout.policy_folder / "ssh.toml"
    stage.layout.tools_folder.mkdir(parents=True, exist_ok=True)
    save_enrollment(stage.layout.tools_folder, tool)
    rule.write_text(_POLICY.format(owner=_OWNER))
    try:
        yield
    finally:
        remove_enrollment(stage.layout.tools_folder, tool)
        rule.unlink()
        _reload(stage)


def _reload(stage: Stage) -> None:
    from agent_broker.transport.control_client import ControlClient  # noqa: PLC0415 - see tests.bench.daemons

    with ControlClient(stage.layout.admin_socket) as client:
        client.reload()


@contextlib.contextmanager
def _openssh_agent(folder: Path, keys: Iterable[Path]) -> Iterator[Path]:
    """Run OpenSSH's own with these keys."""
    path = folder / "openssh.sock"
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL, user=_OWNER, group=_OWNER, extra_groups=[]
    )
    try:
        end_s = time.monotonic() + _START_S
        while not path.exists():
            if time.monotonic() > end_s:
                raise CannotMeasureError("ssh-agent does not start")
            time.sleep(0.01)
        for key in keys:
            _as_owner("ssh-add", "-q", str(key), SSH_AUTH_SOCK=str(path))
        yield path
    finally:
        agent.terminate()
        agent.wait()


def _as_owner(*command: str, **environment: str) -> None:
    run_driver(list(command), uid=_OWNER, environment=environment)
