"""The monitor's life: loads the kernel side, watches decoys, answers who somebody is. Root only; no secret, no network.

It gives up what it does not need: every capability but those that BPF, fanotify and /proc ask for, and the network
altogether. If the kernel side can't be loaded it goes on, blind: decoys still alert, and every attestation is Unknown.
"""

import asyncio
import logging
import os
import socket
import sys
import uuid
from functools import partial

import agent_broker
from agent_broker.clock import SystemClock
from agent_broker.config.accounts import broker_account
from agent_broker.config.document import Config
from agent_broker.config.folders import make_folders
from agent_broker.config.layout import Layout
from agent_broker.enroll.updater import Surroundings, Updater
from agent_broker.errors import UnavailableError
from agent_broker.identity.allowed import load_allowed
from agent_broker.identity.attest import Attestor
from agent_broker.identity.distribution import Distribution
from agent_broker.identity.enrolled_files import read_enrolled_files, register_files
from agent_broker.identity.environment import scan_strings
from agent_broker.identity.executable import HashCache
from agent_broker.identity.planted import load_planted
from agent_broker.identity.registry import load_registry
from agent_broker.ids import Epoch
from agent_broker.kernel.events import FileFacts, Taint
from agent_broker.kernel.marks import KernelMarks
from agent_broker.kernel.pins import pins_folder
from agent_broker.lifetime import settle, told_to_stop
from agent_broker.lineage.store import Store
from agent_broker.monitor.bell import BellRinger
from agent_broker.monitor.blind import BlindAttestor
from agent_broker.monitor.credentials import Credentials, PathOptions
from agent_broker.monitor.defence import Defence
from agent_broker.monitor.denials import DenialReader
from agent_broker.monitor.fingerprint import facts_by_stat
from agent_broker.monitor.halt import Stopping
from agent_broker.monitor.heartbeat import Heartbeat
from agent_broker.monitor.kernel_side import drain, load_sensor, name_of_pid, protect, watch_endpoints
from agent_broker.monitor.learning import Learning
from agent_broker.monitor.messages import MonitorStatus
from agent_broker.monitor.provenance import Provenance, not_recorded
from agent_broker.monitor.publishing import Publisher
from agent_broker.monitor.report import Watcher
from agent_broker.monitor.script_starts import ScriptStarts
from agent_broker.monitor.self_defence import SelfReporter
from agent_broker.monitor.service import Service, bind_monitor_socket
from agent_broker.monitor.session import session_of
from agent_broker.monitor.sight import Sight, sight_without
from agent_broker.monitor.spool import Spool
from agent_broker.monitor.tamper import TamperReporter
from agent_broker.monitor.tiers import ENFORCE, NONE, detect
from agent_broker.monitor.watch import DecoyWatch
from agent_broker.privilege import (
    CAP_BPF,
    CAP_DAC_READ_SEARCH,
    CAP_KILL,
    CAP_LEASE,
    CAP_PERFMON,
    CAP_SYS_ADMIN,
    CAP_SYS_PTRACE,
    allow_descriptors,
    hide_memory,
    keep_capabilities,
    leave_network,
    take_precedence,
)

_KEPT = CAP_BPF | CAP_PERFMON | CAP_SYS_ADMIN | CAP_SYS_PTRACE | CAP_DAC_READ_SEARCH | CAP_LEASE

_SWITCH_S = 0.0002
"""How long the thread that openers wait for waits for the event loop to let it run, at most; Python says 5 ms."""

_LOG = logging.getLogger(__name__)


def run(layout: Layout, config: Config) -> None:
    """Run the monitor until SIGTERM or SIGINT.

    Raises:
        UnavailableError: not root, or socket or spool can't be had, or not even fanotify works.
        MisuseError, IntegrityError: configuration or registry is wrong.
    """
    logging.basicConfig(level=logging.INFO, format="agent-broker monitor: %(message)s", stream=sys.stderr)
    if os.geteuid() != 0:
        raise UnavailableError("the monitor must run as root", next_step="sudo agent-broker monitor")
    hide_memory()
    allow_descriptors()
    take_precedence()
    sys.setswitchinterval(_SWITCH_S)
    asyncio.run(_live(layout, config))


class Monitor:
    """Everything the monitor is made of."""

    def __init__(self, layout: Layout, config: Config, listener: socket.socket) -> None:
        """Load the kernel side, open the spool; nothing is watched before ``reload``.

        Raises:
            UnavailableError: not even fanotify works, or the disk refuses.
            IntegrityError: the spool is damaged.
        """
        self._layout = layout
        self._epoch = Epoch(uuid.uuid4().hex)
        self._store = Store(scan_strings, name_of_pid)
        self._hashes = HashCache()
        self._heartbeat = Heartbeat(SystemClock())
        sink, pins = self._heartbeat.tap(self._store.apply), pins_folder(layout.root)
        self.sensor, problem = load_sensor(self._store, sink, config.monitor.ring_bytes, pins)
        self._tier = detect(bpf_problem=problem, denies=self._marks() is not None)
        self._starts = None if self.sensor is None else ScriptStarts(self.sensor, self._store)
        self._attestor = self._make_attestor(problem)
        self._spool = Spool(layout.spool)
        self.publish = Publisher(self._spool)
        self._packages = Distribution()
        self._defence = self._make_defence(config)
        self._agents = 0
        self._problems: tuple[str, ...] = ()
        self._learning = Learning(layout.learnt_file)
        self._credentials = self._make_credentials(config)
        self._per_family = config.incidents.per_family
        self._watch = self._make_watch()
        self._ringer = BellRinger(self._watch.bell, self.reload, self.publish, SystemClock(), self._tier.name)
        self._denials = self._make_denial_reader()
        self._updater = self._make_updater(config)
        self._port = config.inject.port
        self._tell_tampering()
        self._service = Service(
            listener=listener,
            broker_uid=broker_account(config.daemon).uid,
            attestor=self._defence.attestor,
            spool=self._spool,
            reload=self.reload,
            status=self._status,
            subscribed=self._subscribed,
            who_wrote=self._who_wrote,
            let_go_on=self._defence.halt.let_go_on,
        )
        self.publish.respond, self.publish.push = self._defence.halt.respond, self._service.publish

    async def serve(self) -> None:
        """Answer and watch until told to stop."""
        stop = told_to_stop()
        agents, decoys, problems = await self._begin()
        if self._updater is not None:
            self._updater.start()
        await self._defence.start()
        self._ringer.start()
        self._service.start()
        for problem in (*self._tier.problems, *self._pin_problems(), *problems):
            _LOG.warning("%s", problem)
        settle()
        files = self._watch.credentials_watched
        _LOG.info("ready: tier %s, %d agents, %d decoys, %d credential files", self._tier.name, agents, decoys, files)
        stopped = asyncio.create_task(stop.wait())
        draining = asyncio.create_task(drain(self.sensor, None if self._starts is None else self._starts.drain))
        try:
            await asyncio.wait([stopped, draining], return_when=asyncio.FIRST_COMPLETED)
            if draining.done():
                draining.result()  # a monitor that can't read the kernel's events must not go on as if it could
        finally:
            draining.cancel()
            stopped.cancel()
            await asyncio.wait([stopped, draining])
            await self._ringer.close()
            await self._defence.close()
            if self._denials is not None:
                self._denials.close()
            await self._watch.close()
            await self._service.close()
            if self._updater is not None:
                await self._updater.close()
            if self._starts is not None:
                await self._starts.close()
            await self.publish.close()
            self._spool.close()
            if self.sensor is not None:
                self.sensor.close()

    async def _begin(self) -> tuple[int, int, tuple[str, ...]]:
        """Mark everything; only then take over from an earlier monitor. Return what ``reload`` does."""
        if self.sensor is not None:
            protect(self.sensor, os.getpid())
        done = await self.reload()
        if self._denials is not None:
            self._denials.start()
            self._denials.take_over()
        return done

    async def reload(self) -> tuple[int, int, tuple[str, ...]]:
        """Read the registry again; return agents, decoys watched, and what could not be put in force.

        Raises:
            IntegrityError, MisuseError: the registry is not root's, or has a mistake; the old one stays in force.
        """
        enrollments = load_registry(self._layout.registry_folder)
        planted, allowed = load_planted(self._layout.decoys_folder), load_allowed(self._layout.allowed_folder)
        problems: tuple[str, ...] = ()
        if self.sensor is not None and isinstance(self._attestor, Attestor):
            table, problems = await read_enrolled_files(enrollments, self.sensor, self._hashes)
            register_files(self.sensor, self._attestor.agents, table)
            self._attestor.agents = table
            if self._starts is not None:
                problems += await self._starts.take_over(table)
            self._attestor.senders_known = watch_endpoints(self.sensor, self._port, self._layout.inject_socket)
        if self._updater is not None:
            problems = (*problems, *self._updater.apply_registry(enrollments))
        self._agents = len(enrollments)
        self._credentials.allow(allowed)
        if problem := self._learning.reload():
            problems = (*problems, problem)
        self._problems = problems
        unmarked = (*self._watch.apply_registry(enrollments, planted), *self._defence.apply_registry(enrollments))
        return self._agents, self._watch.decoys_watched, (*problems, *unmarked)

    def _subscribed(self, broker_pid: int) -> None:
        if self.sensor is not None:
            watch_endpoints(self.sensor, self._port, self._layout.inject_socket)
            protect(self.sensor, broker_pid)

    def _tell_tampering(self) -> None:
        if not isinstance(self._attestor, Attestor):
            return
        reporter = TamperReporter(self._attestor, self.publish, SystemClock(), self._epoch)

        def report_soon(event: Taint) -> None:  # in the next turn of the loop: it comes out of the middle of the ring
            asyncio.get_running_loop().call_soon(reporter.report, event)

        self._store.on_taint = report_soon

    def _make_attestor(self, problem: str) -> Attestor | BlindAttestor:
        if self.sensor is None:
            return BlindAttestor(problem)
        return Attestor(
            epoch=self._epoch,
            tier=self._tier.name,
            sensor=self.sensor,
            store=self._store,
            hashes=self._hashes,
            scripts=None if self._starts is None else self._starts.scripts,
        )

    def _make_defence(self, config: Config) -> Defence:
        freeze = config.freeze
        return Defence(
            heartbeat=self._heartbeat,
            sensor=self.sensor,
            store=self._store,
            attestor=self._attestor,
            publish=self.publish,
            clock=SystemClock(),
            epoch=self._epoch,
            tier=self._tier.name,
            stopping=Stopping(freeze.stop, freeze.stop_agent, broker_account(config.daemon).uid),
            packages=self._packages,
        )

    def _make_watch(self) -> DecoyWatch:
        return DecoyWatch(
            attestor=self._defence.attestor,
            hashes=self._hashes,
            facts_of=self._facts_of,
            publish=self.publish,
            clock=SystemClock(),
            watcher=Watcher(
                epoch=self._epoch,
                tier=self._tier.name,
                packages=self._packages,
                session_of=partial(session_of, self._store.captured),
                per_family=self._per_family,
            ),
            permission=self._tier.permission,
            credentials=self._credentials,
            marks=self._marks() if self._tier.name == ENFORCE else None,
        )

    def _make_credentials(self, config: Config) -> Credentials:
        options = PathOptions(config.paths.enabled, config.paths.deny, config.paths.extra, config.paths.ignore)
        return Credentials.shipped(options, self._packages, self._hashes, self._facts_of, self._learning)

    def _pin_problems(self) -> tuple[str, ...]:
        denials = None if self.sensor is None else self.sensor.denials
        return (denials.problem,) if denials is not None and denials.problem else ()

    def _marks(self) -> KernelMarks | None:
        return None if self.sensor is None else self.sensor.marks

    def _make_denial_reader(self) -> DenialReader | None:
        if self.sensor is None or self.sensor.denials is None or not isinstance(self._attestor, Attestor):
            return None
        us = SelfReporter(self._attestor, self.publish, SystemClock(), self._epoch, self._tier.name)
        return DenialReader(self.sensor.denials, self.sensor.consume, self._watch.kernel_opens, us)

    def _make_updater(self, config: Config) -> Updater | None:
        if self.sensor is None:
            return None
        around = Surroundings(
            attestor=self._attestor,
            sensor=self.sensor,
            store=self._store,
            hashes=self._hashes,
            clock=SystemClock(),
            journal_dir=self._layout.enroll_folder,
            registry_dir=self._layout.registry_folder,
            state_file=self._layout.updates_file,
            tier=self._tier.name,
            publish=self.publish,
            reload=self.reload,
        )
        return Updater(around, config.updates.ways)

    def _who_wrote(self, fd: int) -> Provenance:
        return not_recorded("the monitor is blind") if self._updater is None else self._updater.who_wrote(fd)

    def _facts_of(self, fd: int) -> FileFacts:
        return facts_by_stat(fd) if self.sensor is None else self.sensor.own_file(fd).file

    def _all_problems(self) -> tuple[str, ...]:
        ringer = (self._ringer.problem,) if self._ringer.problem else ()
        return (
            *ringer,
            *self._tier.problems,
            *self._pin_problems(),
            *self._problems,
            *self._watch.problems,
            *self._defence.problems,
        )

    def _status(self, number: int) -> MonitorStatus:
        if self.sensor is not None:
            self.sensor.consume()
        return MonitorStatus(
            id=number,
            epoch=self._epoch,
            tier=NONE if self._defence.is_blind else self._tier.name,
            version=agent_broker.__version__,
            processes=self._store.live,
            images=self._store.images,
            events=0 if self.sensor is None else self.sensor.consumed,
            lost_events=0 if self.sensor is None else self.sensor.losses().total,
            incidents_made=self.publish.made,
            incidents_unacknowledged=len(self._spool.unacknowledged()),
            spool_dropped=self._spool.dropped,
            agents=self._agents,
            decoys_watched=self._watch.decoys_watched,
            credentials_watched=self._watch.credentials_watched,
            problems=self._all_problems(),
            sight=Sight() if self.sensor is None else sight_without(self.sensor.missing),
            blind=self._defence.blind,
            proven_age_ns=self._defence.proven_age_ns,
        )


async def _live(layout: Layout, config: Config) -> None:
    account = broker_account(config.daemon)
    make_folders(layout, account)
    listener = bind_monitor_socket(layout.monitor_socket, account.gid)
    monitor = Monitor(layout, config, listener)
    keep_capabilities(_KEPT | (CAP_KILL if config.freeze.stop else 0))
    leave_network()
    await monitor.serve()
