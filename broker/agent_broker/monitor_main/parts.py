"""What the monitor is made of: loaded and opened, in the order in which one needs the other, and not at work yet."""

import uuid
from collections.abc import Awaitable, Callable
from functools import partial

from agent_broker.clock import SystemClock
from agent_broker.config.accounts import broker_account
from agent_broker.config.document import Config
from agent_broker.config.layout import Layout
from agent_broker.enroll.updater import Surroundings, Updater
from agent_broker.identity.attest import Attestor
from agent_broker.identity.distribution import Distribution
from agent_broker.identity.environment import scan_strings
from agent_broker.identity.executable import HashCache
from agent_broker.ids import Epoch
from agent_broker.kernel.events import FileFacts
from agent_broker.kernel.marks import KernelMarks
from agent_broker.kernel.pins import pins_folder
from agent_broker.lineage.store import Store
from agent_broker.monitor.blind import BlindAttestor
from agent_broker.monitor.completing import Completer
from agent_broker.monitor.credential_rules import PathOptions
from agent_broker.monitor.credentials import Credentials
from agent_broker.monitor.defence import Defence
from agent_broker.monitor.denials import DenialReader
from agent_broker.monitor.fingerprint import Fingerprints, facts_by_stat
from agent_broker.monitor.halt import Stopping
from agent_broker.monitor.heartbeat import Heartbeat
from agent_broker.monitor.incident import NO_EPOCH, Incident
from agent_broker.monitor.kernel_side import Backend, load_sensor, name_of_pid
from agent_broker.monitor.learning import Learning
from agent_broker.monitor.lost_exits import LostExits
from agent_broker.monitor.publishing import Publisher
from agent_broker.monitor.report import Watcher
from agent_broker.monitor.script_starts import ScriptStarts
from agent_broker.monitor.self_defence import SelfReporter
from agent_broker.monitor.session import session_of
from agent_broker.monitor.spool import Spool
from agent_broker.monitor.tamper import TamperReporter
from agent_broker.monitor.tiers import ENFORCE, detect
from agent_broker.monitor.watch import DecoyWatch

Reload = Callable[[], Awaitable[tuple[int, int, tuple[str, ...]]]]
"""Returns agents, decoys watched, and what could not be put in force."""


class Parts:
    """See the module. Attributes are the parts; ``sensor`` and what needs it are None if the monitor is blind."""

    def __init__(self, layout: Layout, config: Config) -> None:
        """Load the kernel side, open the spool; nothing is watched yet.

        Raises:
            UnavailableError: not even fanotify works, or the disk refuses.
        """
        self.layout = layout
        self.epoch = Epoch(uuid.uuid4().hex)
        self.store = Store(scan_strings, name_of_pid)
        self.hashes = HashCache()
        self.heartbeat = Heartbeat(SystemClock())
        sink, pins = self.heartbeat.tap(self.store.apply), pins_folder(layout.root)
        self.backend = config.sensor.backend
        self.sensor, problem = load_sensor(
            self.store,
            sink,
            config.monitor.ring_bytes,
            pins,
            backend=Backend(config.sensor.backend, config.sensor.offsets),
        )
        self.tier = detect(bpf_problem=problem, denies=self._marks() is not None)
        self.starts = None if self.sensor is None else ScriptStarts(self.sensor, self.store)
        self.packages = Distribution()
        self.lost_exits = None if self.sensor is None else LostExits(self.sensor, self.store, SystemClock())
        self.attestor = self._make_attestor(problem)
        self.spool = Spool(layout.spool)
        self.publish = Publisher(self.spool)
        self.defence = self._make_defence(config)
        self.completer = self._make_completer()
        self.learning = Learning(layout.learnt_file)
        self.credentials = self._make_credentials(config)
        self.watch = self._make_watch(config.incidents.per_family)
        self.denials = self._make_denial_reader()
        self.tampering = self._make_tamper_reporter()
        self._completing = 0

    @property
    def pin_problems(self) -> tuple[str, ...]:
        """Why what is denied would not stay denied without us: sentences."""
        denials = None if self.sensor is None else self.sensor.denials
        return (denials.problem,) if denials is not None and denials.problem else ()

    def _make_attestor(self, problem: str) -> Attestor | BlindAttestor:
        if self.sensor is None:
            return BlindAttestor(problem)
        return Attestor(
            epoch=self.epoch,
            tier=self.tier.name,
            sensor=self.sensor,
            store=self.store,
            hashes=self.hashes,
            scripts=None if self.starts is None else self.starts.scripts,
            packages=self.packages,
        )

    def _make_defence(self, config: Config) -> Defence:
        freeze = config.freeze
        return Defence(
            heartbeat=self.heartbeat,
            sensor=self.sensor,
            store=self.store,
            attestor=self.attestor,
            publish=self.publish,
            clock=SystemClock(),
            epoch=self.epoch,
            tier=self.tier.name,
            stopping=Stopping(freeze.stop, freeze.stop_agent, broker_account(config.daemon).uid),
            packages=self.packages,
        )

    def _make_completer(self) -> Completer:
        return Completer(
            attestor=self.defence.attestor,
            fingerprints=Fingerprints(self.hashes, self._facts_of),
            packages=self.packages,
            session_of=partial(session_of, self.store.captured),
            epoch=self.epoch,
            tier=self.tier.name,
        )

    def take_in(self) -> int:
        """Look at what the kernel has told by now; return what may become an incident (MonitorStatus).

        One more than there is while some of it is still queued.
        """
        if self.sensor is not None:
            self.sensor.consume()
        if self.denials is not None:
            self.denials.read()
        queued = self.watch.take_in() + self.defence.take_in()
        seen = self.watch.in_work + self.defence.in_work
        tampered = 0 if self.tampering is None else self.tampering.in_work
        return queued + seen + tampered + self.publish.in_work + self._completing

    async def complete(self, incident: Incident) -> Incident:
        """Do to an incident of the broker's what is done to our own: stop its offender, look at it."""
        self._completing += 1
        try:
            return await self._complete(incident)
        finally:
            self._completing -= 1

    async def _complete(self, incident: Incident) -> Incident:
        stopped = self.defence.halt.respond(incident)
        completed = await self.completer.complete(stopped)
        is_known_now = incident.epoch == NO_EPOCH and not stopped.response  # that its numbers are ours
        return self.defence.halt.respond(completed) if is_known_now else completed

    def _make_watch(self, per_family: int) -> DecoyWatch:
        return DecoyWatch(
            attestor=self.defence.attestor,
            hashes=self.hashes,
            facts_of=self._facts_of,
            publish=self.publish,
            clock=SystemClock(),
            watcher=Watcher(
                epoch=self.epoch,
                tier=self.tier.name,
                packages=self.packages,
                session_of=partial(session_of, self.store.captured),
                per_family=per_family,
            ),
            permission=self.tier.permission,
            credentials=self.credentials,
            marks=self._marks() if self.tier.name == ENFORCE else None,
        )

    def _make_credentials(self, config: Config) -> Credentials:
        options = PathOptions(config.paths.enabled, config.paths.deny, config.paths.extra, config.paths.ignore)
        return Credentials.shipped(options, self.packages, self.hashes, self._facts_of, self.learning)

    def _marks(self) -> KernelMarks | None:
        return None if self.sensor is None else self.sensor.marks

    def _make_denial_reader(self) -> DenialReader | None:
        if self.sensor is None or self.sensor.denials is None or not isinstance(self.attestor, Attestor):
            return None
        us = SelfReporter(self.attestor, self.publish, SystemClock(), self.epoch, self.tier.name)
        return DenialReader(self.sensor.denials, self.sensor.consume, self.watch.kernel_opens, us)

    def updater(self, config: Config, reload: Reload) -> Updater | None:
        """Return what looks after agents' updates; None: a blind monitor can't."""
        if self.sensor is None:
            return None
        around = Surroundings(
            attestor=self.attestor,
            sensor=self.sensor,
            store=self.store,
            hashes=self.hashes,
            clock=SystemClock(),
            journal_dir=self.layout.enroll_folder,
            registry_dir=self.layout.registry_folder,
            state_file=self.layout.updates_file,
            tier=self.tier.name,
            publish=self.publish,
            reload=reload,
        )
        return Updater(around, config.updates.ways)

    def _facts_of(self, fd: int) -> FileFacts:
        return facts_by_stat(fd) if self.sensor is None else self.sensor.own_file(fd).file

    def _make_tamper_reporter(self) -> TamperReporter | None:
        if not isinstance(self.attestor, Attestor):
            return None
        reporter = TamperReporter(self.attestor, self.publish, SystemClock(), self.epoch)
        self.store.on_taint = reporter.report
        return reporter
