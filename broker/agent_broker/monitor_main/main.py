"""The monitor's life: loads the kernel side, watches decoys, answers who somebody is. Root only; no secret, no network.

It gives up what it does not need: every capability but those that BPF, fanotify and /proc ask for, and the network
altogether. If the kernel side can't be loaded it goes on, blind: decoys still alert, and every attestation is Unknown.
"""

import asyncio
import logging
import os
import socket
import sys

from agent_broker.clock import SystemClock
from agent_broker.config.accounts import broker_account
from agent_broker.config.document import Config
from agent_broker.config.folders import make_folders
from agent_broker.config.layout import Layout
from agent_broker.errors import UnavailableError
from agent_broker.identity.allowed import load_allowed
from agent_broker.identity.attest import Attestor
from agent_broker.identity.enrolled_files import read_enrolled_files, register_files
from agent_broker.identity.planted import load_planted
from agent_broker.identity.registry import load_registry
from agent_broker.identity.viewed import load_viewed
from agent_broker.kernel.sensor import KernelSensor
from agent_broker.lifetime import settle, told_to_stop
from agent_broker.monitor.bell import BellRinger
from agent_broker.monitor.kernel_side import drain, protect, watch_endpoints
from agent_broker.monitor.link_watch import LinkWatch
from agent_broker.monitor.listener import bind_monitor_socket
from agent_broker.monitor.messages import MonitorStatus
from agent_broker.monitor.provenance import Provenance, not_recorded
from agent_broker.monitor.self_defence import decide_damage
from agent_broker.monitor.service import Service
from agent_broker.monitor.tool_files import ToolFiles
from agent_broker.monitor.view_mount import ViewMount
from agent_broker.monitor_main.parts import Parts
from agent_broker.monitor_main.status import status_of
from agent_broker.privilege import (
    CAP_BPF,
    CAP_DAC_READ_SEARCH,
    CAP_KILL,
    CAP_LEASE,
    CAP_PERFMON,
    CAP_SYS_ADMIN,
    CAP_SYS_NICE,
    CAP_SYS_PTRACE,
    allow_descriptors,
    hide_memory,
    keep_capabilities,
    leave_network,
    take_precedence,
)

_KEPT = CAP_BPF | CAP_PERFMON | CAP_SYS_ADMIN | CAP_SYS_PTRACE | CAP_DAC_READ_SEARCH | CAP_LEASE | CAP_SYS_NICE

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
    """The monitor at work: its parts, and who asks it."""

    def __init__(self, layout: Layout, config: Config, listener: socket.socket) -> None:
        """Load the kernel side, open the spool; nothing is watched before ``reload``.

        Raises:
            UnavailableError: not even fanotify works, or the disk refuses.
        """
        self._parts = parts = Parts(layout, config)
        self._layout = layout
        self.sensor, self.publish = parts.sensor, parts.publish
        self._agents = 0
        self._problems: tuple[str, ...] = ()
        self._ringer = BellRinger(parts.watch.bell, self.reload, self.publish, SystemClock(), parts.tier.name)
        self._updater = parts.updater(config, self.reload)
        self._tool_files = ToolFiles(self.reload)
        self._view = ViewMount(layout.view_folder)
        self._links = LinkWatch(layout.view_folder, self.publish, SystemClock(), parts.tier.name)
        self._port = config.inject.port
        self._service = Service(
            listener=listener,
            broker_uid=broker_account(config.daemon).uid,
            attestor=self._parts.defence.attestor,
            spool=self._parts.spool,
            reload=self.reload,
            status=self._status,
            subscribed=self._subscribed,
            who_wrote=self._who_wrote,
            let_go_on=self._parts.defence.halt.let_go_on,
            mount_view=self._view.mount,
            complete=parts.complete,
        )
        self.publish.complete = parts.completer.complete
        self.publish.respond, self.publish.push = self._parts.defence.halt.respond, self._service.publish

    async def serve(self) -> None:
        """Answer and watch until told to stop."""
        stop, parts = told_to_stop(), self._parts
        self._view.begin()
        agents, decoys, problems = await self._begin()
        if self._updater is not None:
            self._updater.start()
        await parts.defence.start()
        self._ringer.start()
        self._tool_files.start()
        self._links.start()
        self._service.start()
        if parts.spool.damage:
            self.publish(decide_damage(parts.spool.damage, SystemClock(), parts.tier.name))
        for problem in (*parts.tier.problems, *parts.pin_problems, *problems):
            _LOG.warning("%s", problem)
        settle()
        files = parts.watch.credentials_watched
        _LOG.info("ready: tier %s, %d agents, %d decoys, %d credential files", parts.tier.name, agents, decoys, files)
        stopped = asyncio.create_task(stop.wait())
        draining = asyncio.create_task(drain(self.sensor, self._after_draining))
        try:
            await asyncio.wait([stopped, draining], return_when=asyncio.FIRST_COMPLETED)
            if draining.done():
                draining.result()  # a monitor that can't read the kernel's events must not go on as if it could
        finally:
            draining.cancel()
            stopped.cancel()
            await asyncio.wait([stopped, draining])
            await self._close()

    async def _close(self) -> None:
        parts = self._parts
        await self._ringer.close()
        await self._tool_files.close()
        await self._links.close()
        await parts.defence.close()
        if parts.denials is not None:
            parts.denials.close()
        await parts.watch.close()
        if parts.tampering is not None:
            await parts.tampering.close()
        await self._service.close()
        self._view.close()  # now that no broker can ask for another
        if self._updater is not None:
            await self._updater.close()
        if parts.starts is not None:
            await parts.starts.close()
        await self.publish.close()
        await parts.completer.close()
        parts.spool.close()
        if self.sensor is not None:
            self.sensor.close()

    def _after_draining(self) -> None:
        if self._parts.starts is not None:
            self._parts.starts.drain()
        if self._parts.lost_exits is not None:
            self._parts.lost_exits.look()

    async def _begin(self) -> tuple[int, int, tuple[str, ...]]:
        """Mark everything; only then take over from an earlier monitor. Return what ``reload`` does."""
        if self.sensor is not None:
            protect(self.sensor, os.getpid())
        done = await self.reload()
        if self._parts.denials is not None:
            self._parts.denials.start()
            self._parts.denials.take_over()
        return done

    async def reload(self) -> tuple[int, int, tuple[str, ...]]:
        """Read the registry again; return agents, decoys watched, and what could not be put in force.

        Raises:
            IntegrityError, MisuseError: the registry is not root's, or has a mistake; the old one stays in force.
        """
        parts = self._parts
        enrollments, tools = (load_registry(each) for each in (self._layout.registry_folder, self._layout.tools_folder))
        planted, allowed = load_planted(self._layout.decoys_folder), load_allowed(self._layout.allowed_folder)
        problems: tuple[str, ...] = ()
        if self.sensor is not None and isinstance(parts.attestor, Attestor):
            table, problems = await read_enrolled_files(enrollments, self.sensor, parts.hashes, tools, parts.packages)
            register_files(self.sensor, parts.attestor.agents, table)
            parts.attestor.agents = table
            if parts.starts is not None:
                problems += await parts.starts.take_over(table)
            parts.attestor.senders_known = self._watch_endpoints(self.sensor)
        if self._updater is not None:
            problems = (*problems, *self._updater.apply_registry(enrollments))
        self._agents = len(enrollments)
        parts.credentials.allow(allowed)
        if problem := parts.learning.reload():
            problems = (*problems, problem)
        self._problems = problems
        self._tool_files.take(tools)
        self._links.take(load_viewed(self._layout.files_folder))
        watched = (*enrollments, *tools)
        unmarked = (*parts.watch.apply_registry(watched, planted), *parts.defence.apply_registry(enrollments))
        return self._agents, parts.watch.decoys_watched, (*problems, *unmarked)

    def _watch_endpoints(self, sensor: KernelSensor) -> bool:
        return watch_endpoints(sensor, self._port, self._layout.inject_socket, self._layout.sign_socket)

    def _subscribed(self, broker_pid: int) -> None:
        if self.sensor is not None:
            self._watch_endpoints(self.sensor)
            protect(self.sensor, broker_pid)

    def _who_wrote(self, fd: int) -> Provenance:
        return not_recorded("the monitor is blind") if self._updater is None else self._updater.who_wrote(fd)

    def _status(self, number: int) -> MonitorStatus:
        return status_of(self._parts, number, self._agents, self._ringer.problem, self._problems)


async def _live(layout: Layout, config: Config) -> None:
    account = broker_account(config.daemon)
    make_folders(layout, account)
    listener = bind_monitor_socket(layout.monitor_socket, account.gid)
    monitor = Monitor(layout, config, listener)
    keep_capabilities(_KEPT | (CAP_KILL if config.freeze.stop else 0))
    leave_network()
    await monitor.serve()
