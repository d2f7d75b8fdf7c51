"""The story on one page: attest, decide, unseal, grant, record, hand over.

A secret's use is given if and only if all of this holds, in this order (DESIGN section 4, "The release rule"); each
refusal names the rule that failed, to the journal in full and to the caller without secrets:

1. ``lineage``   the caller is alive and its evidence is complete;
2. ``owner``     its user is the owner of the credential;
3. ``principal`` the enrolled agent is on its recorded lineage: the caller itself for injection, else an ancestor,
   and every file between both is root's own and writable by nobody else;
4. ``taint``     nothing on that way is tainted;
5. ``frozen``    no process on that way is frozen, nor is the agent;
   (``account``: then which of the agent's accounts is meant is known, if there are several: grant.accounts);
6. ``policy``    a rule allows this credential to this agent in this way, now, at this rate;
7. ``record``    the journal entry is durable before the answer leaves;
8. ``changed``   a second look finds the process as the first one did.

A grant is remembered for its lease, so that its uses count; it opens nothing by itself: all of this is asked anew
for each use.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec import Struct

from agent_broker.audit.journal import Journal
from agent_broker.clock import Clock
from agent_broker.errors import RefusedError
from agent_broker.grant.accounts import Accounts
from agent_broker.grant.freeze import FreezeList
from agent_broker.grant.ledger import Grant, Holder, Ledger
from agent_broker.identity.environment import way_out
from agent_broker.identity.evidence import Evidence, Freshness, Unchanged, Unknown, Verdict
from agent_broker.identity.registry import Enrollment
from agent_broker.identity.updated import find_updated
from agent_broker.ids import CredentialId, parts_of
from agent_broker.lineage.record import Image
from agent_broker.policy.decide import Question, decide, minute_of_day
from agent_broker.policy.rule import Policy
from agent_broker.vault.file import Credential, Vault
from agent_broker.vault.secret import Secret

INJECT = "inject"
RELEASE = "release"


class Caller(Protocol):
    """Somebody at the other end of a socket, whom the monitor can look at again and again."""

    async def attest(self, known: Freshness | None = None) -> Verdict:
        """Return evidence, Unchanged if it is still what ``known`` says, or Unknown."""
        ...


class Ask(Struct, frozen=True):
    """One question: may this caller use this credential in this way?"""

    caller: Caller
    credential: CredentialId
    mode: str
    """``inject`` or ``release``."""
    channel: str
    """Where the question came in, for the journal: ``inject tcp``, ``agent.sock get``."""
    by_folder: bool = False
    """The credential is the agent's own; another account's is meant if the agent works in that one's folder."""


class Issued(Struct, frozen=True):
    """The answer yes. ``secret`` leaves the broker only in the way that the mode allows."""

    grant: Grant
    credential: Credential
    secret: Secret


class Refusals(Protocol):
    """Who is told of a refusal (refusals.RefusalLog): it journals, and raises the alert."""

    async def refused(self, ask: Ask, refusal: RefusedError, verdict: Evidence | Unknown) -> None:
        """Record one refusal."""
        ...


class Issuer:
    """See the module."""

    def __init__(  # noqa: PLR0913 - the parts of the story, named
        self,
        *,
        vault: Vault,
        policy: Callable[[], Policy],
        ledger: Ledger,
        frozen: FreezeList,
        journal: Journal,
        refusals: Refusals,
        clock: Clock,
        lease_s: int,
        enrollments: Callable[[], tuple[Enrollment, ...]] = tuple,
    ) -> None:
        """Take the parts; ``lease_s`` is how long a grant lives, in seconds; ``enrollments`` has the accounts."""
        self._enrollments = enrollments
        self._accounts = Accounts(enrollments)
        self._lease_s = lease_s
        self._vault = vault
        self._policy = policy
        self._ledger = ledger
        self._frozen = frozen
        self._journal = journal
        self._refusals = refusals
        self._clock = clock

    async def issue(self, ask: Ask) -> Issued:
        """Give the use of a credential, or say why not.

        Raises:
            RefusedError: a rule failed; it is journalled, and an alert was raised.
            MisuseError: no such credential.
            IntegrityError: its record in the vault is damaged.
            UnavailableError: the journal can't be written.
        """
        verdict = await ask.caller.attest()
        if isinstance(verdict, Unchanged):  # can't be: nothing was known yet
            verdict = Unknown("the monitor answered a question that was not asked")
        try:
            ask = self._for_account(ask, verdict)
            return await self._issue(ask, verdict)
        except RefusedError as refusal:
            told = self._told(ask, refusal, verdict)
            await self._refusals.refused(ask, told, verdict)
            raise told from refusal.__cause__

    def _for_account(self, ask: Ask, verdict: Evidence | Unknown) -> Ask:
        """Return the question with the credential of the account that is meant."""
        if not ask.by_folder:
            return ask
        evidence = require_identity(verdict, ask.credential, ask.mode)
        return msgspec.structs.replace(ask, credential=self._accounts.choose(evidence, ask.credential))

    def _told(self, ask: Ask, refusal: RefusedError, verdict: Evidence | Unknown) -> RefusedError:
        """Return the refusal, or one that says more if nobody is the agent because it was updated. The no stays."""
        if refusal.rule != "principal" or not isinstance(verdict, Evidence) or verdict.principal is not None:
            return refusal
        agent, _, _ = parts_of(ask.credential)
        found = find_updated(verdict, agent, self._enrollments())
        # below the new program may be anybody, and its tools get nothing by injection in any case
        if found is None or (ask.mode == INJECT and found.image is not verdict.caller):
            return refusal
        return RefusedError("updated", found.sentence, detail=refusal.detail, next_step=found.next_step)

    async def _issue(self, ask: Ask, verdict: Evidence | Unknown) -> Issued:
        # by the id alone: whether there is such a credential is told to its owner's agent only
        evidence = require_identity(verdict, ask.credential, ask.mode)
        credential = self._vault.describe(ask.credential)
        self._require_thawed(evidence)
        self._require_policy(ask, credential)
        secret = self._vault.unseal(credential.id)
        grant = self._grant(evidence, ask, credential)
        await self._record(ask, evidence, grant)
        again = await ask.caller.attest(evidence.freshness)
        if not isinstance(again, Unchanged):
            why = again.reason if isinstance(again, Unknown) else "its numbers are others"
            sentence = "the process changed while it was looked at"
            raise RefusedError("changed", sentence, detail=f"{sentence}: {why}")
        self._require_thawed(evidence)  # a freeze may have come while the journal was written
        return Issued(grant, credential, secret)

    def _require_thawed(self, evidence: Evidence) -> None:
        principal = evidence.principal
        reason = self._frozen.reason_for(evidence.steps, evidence.freshness.epoch, principal)
        if reason is not None:
            raise RefusedError(
                "frozen",
                f"this process or its agent is frozen: {reason}",
                next_step="look at the alert, then: sudo agent-broker thaw",
            )

    def _require_policy(self, ask: Ask, credential: Credential) -> None:
        question = Question(
            agent=credential.agent,
            owner_uid=credential.owner_uid,
            credential=credential.id,
            mode=ask.mode,
            minute_of_day=minute_of_day(self._clock.wall_ns()),
        )
        uses = self._ledger.uses_last_minute(credential.agent, credential.owner_uid, credential.id)
        decision = decide(self._policy(), question, uses)
        if not decision.allowed:
            raise RefusedError("policy", decision.reason, next_step="root can allow it in /etc/agent-broker/policy.d")

    def _grant(self, evidence: Evidence, ask: Ask, credential: Credential) -> Grant:
        freshness = evidence.freshness
        holder = Holder(freshness.epoch, freshness.proc_id, freshness.exec_id)
        found = self._ledger.find(holder, ask.credential, ask.mode)
        if found is not None:
            return self._ledger.use(found)
        return self._ledger.add(
            holder,
            agent=credential.agent,
            owner_uid=credential.owner_uid,
            credential=credential.id,
            mode=ask.mode,
            lease_ns=self._lease_s * 1_000_000_000,
        )

    async def _record(self, ask: Ask, evidence: Evidence, grant: Grant) -> None:
        caller = evidence.caller
        await self._journal.append(
            "use",
            {
                "grant": grant.id,
                "credential": ask.credential,
                "mode": ask.mode,
                "channel": ask.channel,
                "pid": caller.pid,
                "proc": evidence.freshness.proc_id,
                "exec": evidence.freshness.exec_id,
                "epoch": evidence.freshness.epoch,
                "program": caller.filename,
            },
        )


def require_identity(verdict: Evidence | Unknown, credential: CredentialId, mode: str) -> Evidence:
    """Return the evidence if rules 1 to 4 hold.

    Raises:
        RefusedError: the first rule that does not.
        MisuseError: the id is not one of a credential.
    """
    agent, owner_uid, _ = parts_of(credential)
    if isinstance(verdict, Unknown):
        raise RefusedError("lineage", f"who is asking is unknown: {verdict.reason}", next_step=verdict.next_step)
    if verdict.uid != owner_uid:
        raise RefusedError("owner", "the credential belongs to another user")
    principal = verdict.principal
    if principal is None:
        raise RefusedError("principal", f"the caller is not {agent}, and was not started by it")
    if principal.agent != agent or principal.owner_uid != owner_uid:
        raise RefusedError("principal", f"the credential is {agent}'s, the caller is {principal.agent}'s")
    if mode == RELEASE:
        _require_links(verdict, principal.exec_id)
    elif not principal.is_caller:
        raise RefusedError("principal", f"only {agent} itself may use this, not what it starts")
    if verdict.taints:
        raise RefusedError(
            "taint", f"the agent's process is tainted: {verdict.taints[0]}", next_step=way_out(agent, verdict.taints[0])
        )
    return verdict


def _require_links(evidence: Evidence, principal_exec_id: int) -> None:
    """Every image between caller and principal must be a file that only root could have written."""
    for step in evidence.steps:
        if step.image.exec_id == principal_exec_id:
            return
        if not _is_root_owned(step.image):
            raise RefusedError(
                "principal", f"{step.image.filename}, on the way from the agent, can be written by others than root"
            )


def _is_root_owned(image: Image) -> bool:
    return image.file.owner_uid == 0 and not image.file.mode & 0o022 and image.file.nlink > 0
