"""The story on one page: attest, decide, unseal, grant, record, hand over.

A secret's use is given if and only if all of this holds, in this order (DESIGN section 4, "The release rule"); each
refusal names the rule that failed, to the journal in full and to the caller without secrets:

1. ``lineage``   the caller is alive and its evidence is complete;
2. ``owner``     its user is the owner of the credential;
3. ``principal`` the enrolled agent is on its recorded lineage: the caller itself for injection, else an ancestor,
   and every file between both is root's own and writable by nobody else; for a credential of a tool, ``tool``: the
   caller serves that tool as it was enrolled, below an agent or in the owner's own session (grant.tool);
4. ``taint``     nothing on that way is tainted;
5. ``frozen``    no process on that way is frozen, nor is the agent;
   (``account``: then which of the agent's accounts is meant is known, if there are several: grant.accounts);
6. ``policy``    a rule allows this credential to this agent in this way, now, at this rate;
7. ``record``    the journal entry is durable before the answer leaves;
8. ``changed``   a second look, while the entry is written, finds the process as the first one did.

A grant is remembered for its lease, so that its uses count; it opens nothing by itself: all of this is asked anew
for each use.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from msgspec import Struct

from agent_broker.audit.journal import Journal
from agent_broker.clock import Clock
from agent_broker.errors import RefusedError
from agent_broker.grant.accounts import Accounts
from agent_broker.grant.freeze import FreezeList
from agent_broker.grant.ledger import Grant, Holder, Ledger
from agent_broker.grant.reader import reader_of, require_reader
from agent_broker.grant.tool import require_tool, subject_of
from agent_broker.identity.environment import way_out
from agent_broker.identity.evidence import Evidence, Freshness, Unchanged, Unknown, Verdict
from agent_broker.identity.registry import Enrollment
from agent_broker.identity.updated import find_updated, other_interpreter
from agent_broker.ids import AgentName, CredentialId, parts_of
from agent_broker.lineage.record import Image
from agent_broker.policy.decide import Question, decide, minute_of_day
from agent_broker.policy.destination import Destination
from agent_broker.policy.rule import Policy
from agent_broker.vault.file import Credential, Vault
from agent_broker.vault.secret import Secret

INJECT = "inject"
_ENROL_ANEW = "sudo agent-broker unenroll {agent}, then sudo --preserve-env=PATH agent-broker enroll {agent}"
RELEASE = "release"
MINT = "mint"
SIGN = "sign"
STORE = "store"
VIEW = "view"


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
    """One of policy.rule's MODES."""
    channel: str
    """Where the question came in, for the journal: ``inject tcp``, ``agent.sock get``."""
    by_folder: bool = False
    """The credential is the agent's own; another account's is meant if the agent works in that one's folder."""
    tool: bool = False
    """The caller serves an enrolled tool, whose credential it is (grant.tool)."""
    to: Destination | None = None
    """Where the tool says that it uses the credential."""
    about: str = ""
    """What for, for the journal; without control characters."""
    otherwise: str = ""
    """A weaker mode, which is meant where no rule allows ``mode``; empty: none."""
    readers: tuple[AgentName, ...] = ()
    """Of a file's view: the agents and tools whose own process the caller must be (grant.reader)."""


class Issued(Struct, frozen=True):
    """The answer yes. ``secret`` leaves the broker only in the way that the mode allows."""

    grant: Grant
    credential: Credential
    secret: Secret
    narrowed: str = ""
    """What is taken off what is minted from the secret (policy.narrowing)."""


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

    async def permit(self, ask: Ask) -> None:
        """Return if a caller may store, replace or delete a record of its tool; whether there is one does not matter.

        The same law as of ``issue``, without a secret and without a grant: the journal has it before it happens.

        Raises:
            RefusedError: a rule failed; it is journalled, and an alert was raised.
            UnavailableError: the journal can't be written.
        """
        verdict = await ask.caller.attest()
        if isinstance(verdict, Unchanged):  # can't be: see issue
            verdict = Unknown("the monitor answered a question that was not asked")
        try:
            evidence = require_identity(verdict, ask.credential, ask.mode, tool=ask.tool)
            self._require_thawed(evidence)
            self._require_policy(ask, evidence)
            self._grant(evidence, ask)  # counted, for the rates of rules
            recorded = self._journal.append("change", _change_facts(ask, evidence))
            _require_unchanged(await self._look_again_until(recorded, ask, evidence))
            self._require_thawed(evidence)
        except RefusedError as refusal:
            await self._refusals.refused(ask, refusal, verdict)
            raise

    def _for_account(self, ask: Ask, verdict: Evidence | Unknown) -> Ask:
        """Return the question with the credential of the account that is meant."""
        if not ask.by_folder:
            return ask
        evidence = require_identity(verdict, ask.credential, ask.mode)
        return msgspec.structs.replace(ask, credential=self._accounts.choose(evidence, ask.credential))

    def _told(self, ask: Ask, refusal: RefusedError, verdict: Evidence | Unknown) -> RefusedError:
        """Return the refusal, or one that says more if the agent was updated. The no stays."""
        agent, _, _ = parts_of(ask.credential)
        if isinstance(verdict, Unknown):
            return self._told_of_writer(ask, refusal, verdict.writer, agent)
        if refusal.rule != ("taint" if verdict.principal else "principal"):
            return refusal
        found = find_updated(verdict, agent, self._enrollments())
        # below the new program may be anybody, and its tools get nothing by injection in any case
        if found is None or (ask.mode == INJECT and not found.is_caller):
            return self._with_interpreter(refusal, verdict, agent)
        return RefusedError("updated", found.sentence, detail=refusal.detail, next_step=found.next_step)

    def _told_of_writer(
        self, ask: Ask, refusal: RefusedError, writer: Evidence | None, agent: AgentName
    ) -> RefusedError:
        """Return what to do if all that was asked came from the updated agent, although others hold its connection."""
        found = None if writer is None else find_updated(writer, agent, self._enrollments())
        if found is None or ask.mode != INJECT or not found.is_caller:
            return refusal
        return RefusedError("updated", found.sentence, detail=refusal.detail, next_step=found.next_step)

    def _with_interpreter(self, refusal: RefusedError, verdict: Evidence, agent: AgentName) -> RefusedError:
        sentence = other_interpreter(verdict, agent, self._enrollments()) if refusal.rule == "principal" else ""
        if not sentence:
            return refusal
        step = f"start it with that one; or, with the new one first in the PATH: {_ENROL_ANEW.format(agent=agent)}"
        return RefusedError(refusal.rule, sentence, detail=refusal.detail, next_step=step)

    async def _issue(self, ask: Ask, verdict: Evidence | Unknown) -> Issued:
        # by the id alone: whether there is such a credential is told to its owner's agent only
        evidence = require_identity(verdict, ask.credential, ask.mode, tool=ask.tool, readers=ask.readers)
        stored = self._vault.find(ask.credential)
        credential = stored.credential
        self._require_thawed(evidence)
        ask, narrowed = self._require_policy(ask, evidence)
        secret = self._vault.unseal_stored(stored)
        grant = self._grant(evidence, ask)
        recorded = self._record(ask, evidence, grant)
        _require_unchanged(await self._look_again_until(recorded, ask, evidence))
        self._require_thawed(evidence)  # a freeze may have come while the journal was written
        return Issued(grant, credential, secret, narrowed)

    def _require_thawed(self, evidence: Evidence) -> None:
        principal = evidence.principal
        reason = self._frozen.reason_for(evidence.steps, evidence.freshness.epoch, principal)
        if reason is not None:
            raise RefusedError(
                "frozen",
                f"this process or its agent is frozen: {reason}",
                next_step="look at the alert, then: sudo agent-broker thaw",
            )

    def _require_policy(self, ask: Ask, evidence: Evidence) -> tuple[Ask, str]:
        """Return the question with the mode that a rule allows, and how the rule narrows what is minted."""
        owner, owner_uid, _ = parts_of(ask.credential)
        agent, session = _subject(ask, evidence, owner)
        question = Question(
            agent=agent,
            owner_uid=owner_uid,
            credential=ask.credential,
            mode=ask.mode,
            minute_of_day=minute_of_day(self._clock.wall_ns()),
            session=session,
            to=ask.to,
        )
        uses = self._ledger.uses_last_minute(owner, owner_uid, ask.credential)
        decision = decide(self._policy(), question, uses)
        if not decision.allowed and ask.otherwise:
            ask = msgspec.structs.replace(ask, mode=ask.otherwise)
            weaker = decide(self._policy(), msgspec.structs.replace(question, mode=ask.mode), uses)
            decision = weaker if weaker.allowed else decision
        if not decision.allowed:
            raise RefusedError("policy", decision.reason, next_step="root can allow it in /etc/agent-broker/policy.d")
        return ask, decision.narrowed

    def _grant(self, evidence: Evidence, ask: Ask) -> Grant:
        owner, owner_uid, _ = parts_of(ask.credential)
        freshness = evidence.freshness
        holder = Holder(freshness.epoch, freshness.proc_id, freshness.exec_id)
        found = self._ledger.find(holder, ask.credential, ask.mode)
        if found is not None:
            return self._ledger.use(found)
        return self._ledger.add(
            holder,
            agent=owner,
            owner_uid=owner_uid,
            credential=ask.credential,
            mode=ask.mode,
            lease_ns=self._lease_s * 1_000_000_000,
        )

    @staticmethod
    async def _look_again_until(recorded: Awaitable[object], ask: Ask, evidence: Evidence) -> Verdict:
        """Return the second look; the entry is durable then."""
        # a task, and first: the question is on its way when the disk keeps this loop, not the monitor
        looking = asyncio.ensure_future(ask.caller.attest(evidence.freshness))
        try:
            await recorded
            return await looking
        finally:
            looking.cancel()  # the disk refused, or whoever asked has left

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
                **(_tool_facts(ask, evidence) if ask.tool or ask.readers else {}),
                **({"about": ask.about} if ask.about else {}),
            },
        )


def _require_unchanged(again: Verdict) -> None:
    if not isinstance(again, Unchanged):
        why = again.reason if isinstance(again, Unknown) else "its numbers are others"
        sentence = "the process changed while it was looked at"
        raise RefusedError("changed", sentence, detail=f"{sentence}: {why}")


def _change_facts(ask: Ask, evidence: Evidence) -> dict[str, str | int]:
    caller = evidence.caller
    facts: dict[str, str | int] = {
        "credential": ask.credential,
        "mode": ask.mode,
        "channel": ask.channel,
        "pid": caller.pid,
    }
    return {**facts, "program": caller.filename, **_tool_facts(ask, evidence)}


def _subject(ask: Ask, evidence: Evidence, owner: AgentName) -> tuple[AgentName, str]:
    """Return whom the policy is asked about: an agent, or a session of the user's."""
    if ask.readers:
        return reader_of(evidence, ask.readers)
    return subject_of(evidence) if ask.tool else (owner, "")


def _tool_facts(ask: Ask, evidence: Evidence) -> dict[str, str]:
    agent, session = _subject(ask, evidence, AgentName(""))
    return {"for": agent or session, "to": "" if ask.to is None else str(ask.to)}


def require_identity(
    verdict: Evidence | Unknown,
    credential: CredentialId,
    mode: str,
    *,
    tool: bool = False,
    readers: tuple[AgentName, ...] = (),
) -> Evidence:
    """Return the evidence if rules 1 to 4 hold; ``tool``: the credential is a tool's; ``readers``: a file's view is.

    Raises:
        RefusedError: the first rule that does not.
        MisuseError: the id is not one of a credential.
    """
    agent, owner_uid, _ = parts_of(credential)
    if isinstance(verdict, Unknown):
        raise RefusedError("lineage", f"who is asking is unknown: {verdict.reason}", next_step=verdict.next_step)
    if tool:
        require_tool(verdict, agent, owner_uid)
        return verdict
    if mode == VIEW:
        require_reader(verdict, readers, owner_uid)
        return verdict
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
