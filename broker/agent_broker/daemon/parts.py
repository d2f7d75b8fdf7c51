"""Everything the broker is made of, opened once it runs as its own user."""

import logging
from collections.abc import Sequence

from msgspec import structs

from agent_broker.admission.standing import Standings
from agent_broker.audit.alerts import AlertLog
from agent_broker.audit.journal import Journal, Limits
from agent_broker.audit.sinks.dispatch import Dispatch, Pace
from agent_broker.audit.sinks.port import Sink
from agent_broker.audit.store import AlertStore
from agent_broker.audit.store_feed import StoreFeed
from agent_broker.clock import Clock, SystemClock
from agent_broker.config.document import Config
from agent_broker.config.layout import Layout
from agent_broker.daemon.completion import Completion
from agent_broker.daemon.decoy_book import DecoyBook
from agent_broker.daemon.decoy_use import DecoyUse
from agent_broker.daemon.enrolled import Enrolled
from agent_broker.daemon.response import Responses
from agent_broker.errors import AgentBrokerError
from agent_broker.grant.freeze import FreezeList
from agent_broker.grant.ledger import Ledger
from agent_broker.identity.registry import Enrollment, load_registry
from agent_broker.inject.phantom import PhantomBook
from agent_broker.issue import Issuer
from agent_broker.monitor.client import MonitorClient
from agent_broker.monitor.fold import Folder
from agent_broker.monitor.incident import Incident, addressed
from agent_broker.policy.document import load_policy
from agent_broker.policy.rule import Policy
from agent_broker.refusals import RefusalLog
from agent_broker.sign.book import KeyBook
from agent_broker.vault.file import Vault
from agent_broker.vault.secret import Secret
from agent_broker.view.content import Content
from agent_broker.view.gate import Gate
from agent_broker.view.keeper import ViewKeeper

_DAY_NS = 86_400 * 10**9
_LOG = logging.getLogger(__name__)


class Parts:
    """The broker's own objects; ``close`` in the end. What the network sees is made in daemon.main."""

    def __init__(self, layout: Layout, config: Config, root_key: Secret, sinks: Sequence[Sink] = ()) -> None:
        """Open vault, journals and lists; read policy and registry. ``sinks`` get every alert once they are started.

        Raises:
            IntegrityError: something stored is not what was stored.
            UnavailableError: the disk refuses.
            MisuseError: the policy has a mistake.
        """
        self.layout = layout
        self.config = config
        self.clock = SystemClock()
        self.started_ns = self.clock.wall_ns()
        self.vault = Vault.open(layout.vault_file, root_key, self.clock)
        limits = Limits(config.journal.segment_bytes, config.journal.keep)
        self.journal = Journal.open(layout.audit_log, self.clock, limits)
        self.alerts = AlertLog.open(layout.alerts_log, self.clock, limits)
        self.stored_alerts = _stored_alerts(layout, config, self.clock)
        pace = Pace(capacity=config.alerts.backlog)
        self.sinks = Dispatch(self.alerts, layout.alerts_log, layout.outbox_folder, sinks, pace)
        self.frozen = FreezeList(layout.frozen_file)
        self.ledger = Ledger(self.clock)
        self._responses = Responses(self.frozen, self.ledger)
        self.policy = Policy(())
        self.decoys = DecoyBook(layout.decoys_folder)
        self.decoy_use = DecoyUse(self.decoys, self.raise_alert, self.clock)
        self.enrolled = Enrolled(layout.registry_folder, self.vault)
        self.tools: tuple[Enrollment, ...] = ()
        self.phantoms = PhantomBook(self.vault)
        self.ssh_keys = KeyBook(self.vault)
        self.standings = Standings()
        self.monitor = MonitorClient(layout.monitor_socket, self.standings)
        self._completion = Completion(self.monitor)
        folder = Folder(per_family=config.incidents.per_family)
        self.refusals = RefusalLog(self.journal, self.raise_alert, self.clock, folder)
        self.issuer = Issuer(
            vault=self.vault,
            policy=lambda: self.policy,
            ledger=self.ledger,
            frozen=self.frozen,
            journal=self.journal,
            refusals=self.refusals,
            clock=self.clock,
            lease_s=config.grant.lease_s,
            enrollments=lambda: self.enrolled.enrollments,
        )
        self.gate = Gate(self.monitor, self.issuer, self.refusals)
        self.views = ViewKeeper(layout.files_folder, self.vault, self.monitor, self.gate, self._file_written)
        self._raising = 0
        self.reload()

    @property
    def incidents_in_work(self) -> int:
        """See DaemonStatus."""
        return self._raising + self.refusals.in_work

    async def _file_written(self, content: Content) -> None:
        await self.journal.append("file-written", {"credential": content.viewed.content_id})

    async def raise_alert(self, incident: Incident) -> None:
        """Take an incident of the broker's own: as ``take``, once the monitor has said what it knows of the offender.

        Raises:
            UnavailableError: as ``take``.
        """
        self._raising += 1
        try:
            is_frozen = self.config.freeze.on_critical and self._responses.to(incident)[1]
            await self._take(await self._completion.of(incident), is_frozen=is_frozen)
        finally:
            self._raising -= 1

    async def take(self, incident: Incident) -> None:
        """Freeze the offenders of a critical incident, then store it, then the freeze; durable on return.

        Raises:
            UnavailableError: the disk refuses; what was frozen stays frozen until the broker ends.
        """
        self._raising += 1
        try:
            await self._take(incident, is_frozen=False)
        finally:
            self._raising -= 1

    async def _take(self, incident: Incident, *, is_frozen: bool) -> None:
        """``is_frozen``: somebody was frozen for this incident a moment ago, and that is to be saved."""
        if self.config.freeze.on_critical:
            incident, froze = self._responses.to(incident)
            is_frozen = is_frozen or froze
        grants = self._responses.state_of_grants(incident)
        await self.alerts.record(addressed(structs.replace(incident, grants=grants)))
        self.stored_alerts.nudge()
        if is_frozen:
            self.frozen.save()

    def reload(self) -> None:
        """Read policy, registry and phantoms again; what was in force stays in force if one of them is broken.

        Raises:
            MisuseError, IntegrityError: the first mistake.
        """
        policy = load_policy(self.layout.policy_folder)
        self.enrolled.reload()
        self.phantoms.reload()
        self.ssh_keys.reload()
        self.tools = load_registry(self.layout.tools_folder)
        self.views.reload()
        watched = (*self.enrolled.enrollments, *self.tools)
        self.decoys.reload(watched, self.views.files)
        self.policy = policy

    async def close(self) -> None:
        """Let go of everything; says what could not be closed well."""
        await self.monitor.close()
        await self.gate.close()
        await self.refusals.close()
        await self.stored_alerts.close()
        await self.sinks.close()
        for part in (self.alerts, self.journal, self.vault):
            try:
                part.close()
            except AgentBrokerError as error:
                _LOG.warning("%s", error.message)


def _stored_alerts(layout: Layout, config: Config, clock: Clock) -> StoreFeed:
    keep_ns = config.alerts.keep_days * _DAY_NS
    kept = config.alerts.max_incidents
    return StoreFeed(AlertStore(layout.alerts_store, layout.alerts_log, clock, keep_ns=keep_ns, max_incidents=kept))
