"""One private machine for all figures: a root folder, two users who are numbers, drivers, daemons and a provider.

What is guaranteed: nothing outside the folder is written, every process that was started here has ended and the folder
is gone when ``stage`` is left, and the daemons are the shipped commands with the shipped defaults (only users, port and
upstream are set). An agent is enrolled as root's registry says it, without a user's home: the drivers that ask.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent_broker.config.layout import Layout
from agent_broker.identity.registry import DecoyFile, EnrolledBinary, Enrollment, RoleRule, save_enrollment
from agent_broker.ids import AgentName, CredentialId, Sha256, Uid
from tests.bench import drivers
from tests.bench.daemons import Daemon, make_broker, make_monitor, monitor_status
from tests.bench.figures import CannotMeasureError
from tests.fakes.ports import free_port

REPOSITORY = Path(__file__).parents[2]
SHIM = REPOSITORY / "broker/agent_broker/shim/agent-broker-shim"

OWNER = Uid(60_700)
BROKER = Uid(60_701)
"""Numbers that no distribution gives away (systemd: 60578 to 61183 are unused). Neither is in the user database."""

AGENT = AgentName("claude")
CREDENTIAL = CredentialId(f"{AGENT}/{OWNER}/api-key")
REAL_KEY = b"sk-ant-api03-of-the-bench-and-worth-nothing"
AGENT_DRIVERS = ("asker", "exchanger")
LARGE_BYTES = 380_000_000
DECOYS = 16

_CONFIG = """[daemon]
user = {broker}
group = {broker}

[inject]
port = {port}

[incidents]
per_family = 1000

[upstream.anthropic]
base_url = "{provider}"
oauth_token_url = "{provider}/v1/oauth/token"
"""

_POLICY = """[[rule]]
agent = "{agent}"
owner = {owner}
credential = "{agent}/{owner}/*"
modes = ["inject", "release"]
"""


class Stage:
    """See the module. Made by ``stage``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layout = Layout(folder / "root")
        self.large = folder / "large"
        """A binary of the size of an agent's; part of the enrolment."""
        self.decoys = tuple(folder / f"decoys/{number}.json" for number in range(DECOYS))
        self.inject_port = free_port()
        self.provider: Provider
        self.monitor: Daemon = make_monitor(self.layout)
        self.broker: Daemon = make_broker(self.layout)
        self.phantom = b""

    def driver(self, name: str) -> Path:
        """The compiled driver of this name, or the shim."""
        return self.folder / "bin" / name

    def as_owner(
        self, *command: str | Path, timeout_s: float = 60, environment: Mapping[str, str] | None = None
    ) -> list[list[int]]:
        """Run a driver as the enrolled user, with these variables more; return its numbers."""
        variables = {"AGENT_BROKER_ROOT": str(self.layout.root), **(environment or {})}
        return drivers.numbers(drivers.run(list(command), uid=OWNER, environment=variables, timeout_s=timeout_s))

    def have(self, *, monitor: bool, broker: bool) -> None:
        """Start and stop daemons until exactly these run, and everything is in force."""
        if not broker:
            self.broker.stop()
        if not monitor:
            self.monitor.stop()
        if monitor and not self.monitor.runs:
            self.monitor.start()
            self._require_watched()
        if broker and not self.broker.runs:
            self.broker.start()
        if broker and not self.phantom:
            self._store_credential()

    def close(self) -> None:
        """Stop everything."""
        self.broker.stop()
        self.monitor.stop()
        self.provider.stop()

    def _require_watched(self) -> None:
        status = monitor_status(self.layout)
        if status is None or status.agents != 1 or status.decoys_watched != DECOYS or status.problems:
            raise CannotMeasureError(f"the monitor did not take the enrolment: {status}")

    def _store_credential(self) -> None:
        # imported late: see tests.bench.daemons
        from agent_broker.transport.control_client import ControlClient  # noqa: PLC0415
        from agent_broker.vault.secret import Secret  # noqa: PLC0415

        with ControlClient(self.layout.admin_socket) as client:
            client.put_credential(CREDENTIAL, "anthropic-api-key", Secret(REAL_KEY), {})
            self.phantom = client.make_phantom(AGENT, OWNER, CREDENTIAL).reveal()


class Provider:
    """The mock of the Anthropic API in tests/fakes, as a process of its own on a free port."""

    def __init__(self, folder: Path) -> None:
        self._mode = folder / "mode.json"
        command = [sys.executable, "-m", "tests.fakes.mock_provider", "--port", "0", "--mode", str(self._mode)]
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        said = self._process.stdout.readline() if self._process.stdout else ""
        if not said:
            raise CannotMeasureError("the mock provider does not start")
        self.base_url = said.split()[-1]
        self.port = int(self.base_url.rpartition(":")[2])

    def behave(self, mode: str) -> None:
        """Set how it answers from the next request on: JSON of mock_provider.Mode."""
        new = self._mode.with_suffix(".new")
        new.write_text(mode)
        new.replace(self._mode)

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate()


@contextlib.contextmanager
def stage(*, keep: bool = False) -> Iterator[Stage]:
    """Set everything up, below /tmp since socket paths must be short; in the end nothing is left.

    Args:
        keep: leave the folder, with the daemons' logs.

    Raises:
        CannotMeasureError: not root, or something is not built.
    """
    if os.geteuid() != 0:
        raise CannotMeasureError("the bench starts daemons and loads BPF programs: run it as root")
    if not SHIM.is_file():
        raise CannotMeasureError("the shim is not built: make shim")
    folder = Path(tempfile.mkdtemp(prefix="ab-bench-", dir="/tmp"))
    try:
        folder.chmod(0o755)
        made = Stage(folder)
        made.provider = Provider(folder)
        try:
            _furnish(made)
            yield made
        finally:
            made.close()
    finally:
        if not keep:
            shutil.rmtree(folder)


def _furnish(made: Stage) -> None:
    binaries = made.folder / "bin"
    binaries.mkdir()
    drivers.compile_drivers(binaries)
    shutil.copyfile(SHIM, binaries / SHIM.name)
    (binaries / SHIM.name).chmod(0o755)
    _write_large(made.large)
    made.decoys[0].parent.mkdir()
    for decoy in made.decoys:
        decoy.write_text('{"claudeAiOauth":{"accessToken":"a decoy of the bench"}}')
        os.chown(decoy, OWNER, OWNER)
    layout = made.layout
    layout.policy_folder.mkdir(parents=True)
    layout.registry_folder.mkdir(parents=True)
    provider = made.provider.base_url
    layout.config_file.write_text(_CONFIG.format(broker=BROKER, port=made.inject_port, provider=provider))
    (layout.policy_folder / "bench.toml").write_text(_POLICY.format(agent=AGENT, owner=OWNER))
    save_enrollment(layout.registry_folder, enrollment(made))


def enrollment(made: Stage) -> Enrollment:
    """What root's registry says of the agent."""
    paths = (*(made.driver(name) for name in AGENT_DRIVERS), made.large)
    return Enrollment(
        agent=AGENT,
        owner_uid=OWNER,
        owner_name="bench",
        binaries=tuple(enrolled(path) for path in paths),
        role=RoleRule(argv0_names=AGENT_DRIVERS),
        decoys=tuple(DecoyFile(str(path), "claude-oauth") for path in made.decoys),
        credentials=(CREDENTIAL,),
        enrolled_ns=time.time_ns(),
    )


def enrolled(path: Path) -> EnrolledBinary:
    """One binary of an enrolment, as the file is now."""
    with path.open("rb") as file:
        sha256 = Sha256(hashlib.file_digest(file, "sha256").hexdigest())
    return EnrolledBinary(path=str(path), sha256=sha256, size_bytes=path.stat().st_size)


def _write_large(path: Path) -> None:
    block = os.urandom(1_000_000)
    with path.open("wb") as file:
        for _ in range(LARGE_BYTES // len(block)):
            file.write(block)
