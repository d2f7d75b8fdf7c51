"""The inventory as it is told: each agent and credential with its state, its age, who can read it, and what to do.

A remedy is a command that exists, to be pasted into a shell as it stands; paths in it are quoted.
"""

import grp
import pwd
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache

from msgspec import Struct

from agent_broker.enroll.inventory import Inventory
from agent_broker.enroll.inventory_known import Known
from agent_broker.enroll.inventory_protocol import AgentSighting, Readers, Sighting
from agent_broker.enroll.owner import Owner
from agent_broker.identity.registry import Enrollment
from agent_broker.lineage.text import plain

NS_PER_DAY = 86_400 * 1_000_000_000
IN_PLAIN = ("plain", "unopened")
_EXPORTED = {"profile", "env-file", "environment.d", "direnv", "process", "session"}

_MOVED_MEMBERS = {
    "claude": (
        "env.ANTHROPIC_API_KEY",
        "env.ANTHROPIC_AUTH_TOKEN",
        "env.CLAUDE_CODE_OAUTH_TOKEN",
        "primaryApiKey",
    )
}
"""Of settings: other members (a server's token, say) stay at an enrolment."""


class AgentRow(Struct, frozen=True):
    """One agent's program."""

    agent: str
    version: str
    layout: str
    path: str
    resolved: str
    sha256: str
    size_bytes: int
    enrolled: str
    """``yes``; ``changed``: the agent is enrolled, this file is not; ``no``."""
    remedy: str
    """A command; empty: there is nothing to do, or no recipe."""


class CredentialRow(Struct, frozen=True):
    """One credential."""

    path: str
    """As it can be shown; empty: in the vault, its earlier place is not known."""
    name: str
    """Member or variable; empty: the file itself."""
    line: int
    holds: str
    state: str
    """As of inventory_protocol, and: ``vault``, ``decoy``, ``planted``."""
    source: str
    agents: tuple[str, ...]
    opened: bool
    watched: bool
    """Whoever else opens it raises an alert."""
    files: int
    mtime_ns: int
    age_days: int
    mode: str
    owner_uid: int
    readers: Readers
    who: str
    remedies: tuple[str, ...]


class Judge:
    """Knows the records, and which agents can be enrolled, each with the variables that move with it.

    Of a variable: the one file below the home that it moves from; empty: it moves from any.
    """

    def __init__(self, owner: Owner, known: Known, recipes: Mapping[str, Mapping[str, str]], now_ns: int) -> None:
        self._owner = owner
        self._known = known
        self._recipes = recipes
        self._now_ns = now_ns
        self._own = [each for each in known.enrolled if each.owner_uid == owner.uid]
        self._enrolled = {each.agent for each in self._own}
        self._decoys = {decoy.path for each in known.enrolled for decoy in each.decoys}
        self._planted = {each.path: each for each in known.planted}
        self._watched = known.of_home(owner).watched
        self._exporting: set[str] = set()

    def agents(self, inventory: Inventory) -> list[AgentRow]:
        """Return a row for each program."""
        self._learn(inventory)
        return [self._agent(each) for each in inventory.agents]

    def credentials(self, inventory: Inventory, running: Iterable[CredentialRow] = ()) -> list[CredentialRow]:
        """Return a row for each credential: those in plain first, then those that are safe."""
        found = [each.agent for each in inventory.agents]
        self._learn(inventory)
        rows = [self._credential(each, found) for each in inventory.credentials]
        rows += running
        seen = {row.path for row in rows}
        rows += (row for row in self._decoys_elsewhere() if row.path not in seen)
        rows += self._moved()
        return sorted(rows, key=lambda row: row.state not in IN_PLAIN)

    def _learn(self, inventory: Inventory) -> None:
        found = [each.agent for each in inventory.agents]
        self._exporting = {
            agent
            for each in inventory.credentials
            for agent in _whose(each, found)
            if self._needs_consent(agent, each) and self._moves(agent, each)
        }

    def _needs_consent(self, agent: str, seen: Sighting) -> bool:
        """Whether it moves only if its user agrees to that."""
        return seen.source in _EXPORTED or self._below_home(seen) in self._recipes.get(agent, {}).values()

    def _below_home(self, seen: Sighting) -> str:
        home = f"{self._owner.home.rstrip('/')}/".encode("utf-8", "surrogateescape")
        return seen.path.removeprefix(home).decode("utf-8", "surrogateescape")

    def _moves(self, agent: str, seen: Sighting) -> bool:
        """Whether an enrolment takes it: the agent's own file, its settings' own keys, the variables that it reads."""
        if seen.source in _EXPORTED:
            only_in = self._recipes.get(agent, {}).get(seen.name)
            return only_in is not None and only_in in {"", self._below_home(seen)}
        return seen.source == "catalogue" or seen.name in _MOVED_MEMBERS.get(agent, ())

    def _agent(self, seen: AgentSighting) -> AgentRow:
        hashes = {sha for each in self._own if each.agent == seen.agent for sha in _hashes(each)}
        enrolled = "yes" if seen.sha256 in hashes else "changed" if seen.agent in self._enrolled else "no"
        remedy = ""
        if enrolled == "changed":
            remedy = f"sudo agent-broker approve {seen.agent} --user {self._name}"
        elif enrolled == "no" and seen.agent in self._recipes:
            remedy = self.enroll(seen.agent)
        return AgentRow(
            seen.agent,
            plain(seen.version.encode("utf-8", "replace")),
            seen.layout,
            plain(seen.path),
            plain(seen.resolved),
            seen.sha256,
            seen.size_bytes,
            enrolled,
            remedy,
        )

    @property
    def _name(self) -> str:
        return shlex.quote(self._owner.name)

    def enroll(self, agent: str) -> str:
        """Return the command that enrolls an agent of this user."""
        options = " --profiles" if agent in self._exporting else ""
        return f"sudo agent-broker enroll {agent} --user {self._name}{options}"

    def of_process(self, agent: str, pid: int) -> tuple[str, ...]:
        """Return what to do about a variable of a process that runs: where it comes from first, if we can."""
        if agent in self._recipes and agent not in self._enrolled:
            return (self.enroll(agent),)
        return (f"kill {pid}",)

    def _credential(self, seen: Sighting, found: list[str]) -> CredentialRow:
        path = plain(seen.path)
        state = "decoy" if path in self._decoys else "planted" if path in self._planted else str(seen.state)
        watched = state in {"decoy", "planted"} or (seen.source == "catalogue" and self._watched)
        return CredentialRow(
            path=path,
            name=seen.name,
            line=seen.line,
            holds=self._planted[path].kind if state == "planted" else seen.holds,
            state=state,
            source=seen.source,
            agents=seen.agents,
            opened=seen.opened,
            watched=watched,
            files=seen.files,
            mtime_ns=seen.mtime_ns,
            age_days=max(0, (self._now_ns - seen.mtime_ns) // NS_PER_DAY),
            mode=f"{seen.mode:04o}",
            owner_uid=seen.uid,
            readers=seen.readers,
            who=who_reads(seen.uid, seen.readers),
            remedies=tuple(self._remedies(seen, state, found, watched=watched)),
        )

    def _remedies(self, seen: Sighting, state: str, found: list[str], *, watched: bool) -> Iterator[str]:
        if state in IN_PLAIN:
            yield from self._moving(seen, state, found, watched=watched)
        if state in {*IN_PLAIN, "encrypted"} and seen.source != "machine":  # everybody's shell has to read those
            yield from _closing(seen)

    def _moving(self, seen: Sighting, state: str, found: list[str], *, watched: bool) -> Iterator[str]:
        if seen.source == "machine":
            yield f'sudo "${{EDITOR:-vi}}" +{max(seen.line, 1)} {shell_word(seen.path)}'
            return
        for agent in () if seen.source == "session" else _whose(seen, found):
            if agent in self._recipes and agent not in self._enrolled and self._moves(agent, seen):
                yield self.enroll(agent)
                return
        if seen.source == "session":
            yield f"systemctl --user unset-environment {seen.name}"
        elif seen.source in {"profile", "environment.d"} or (seen.agents and seen.line):
            yield f'"${{EDITOR:-vi}}" +{seen.line} {shell_word(seen.path)}'
        elif seen.holds == "ssh-private-key" and state == "plain":
            yield f"ssh-keygen -p -f {shell_word(seen.path)}"
        elif seen.source == "catalogue" and not watched and not self._watched:
            can = [agent for agent in found if agent in self._recipes and agent not in self._enrolled]
            yield self.enroll(can[0]) if can else f"sudo agent-broker decoy plant --kind env-file --user {self._name}"

    def _decoys_elsewhere(self) -> Iterator[CredentialRow]:
        home = f"{self._owner.home.rstrip('/')}/"
        for enrollment in self._own:
            for decoy in enrollment.decoys:
                yield self._unseen(decoy.path, decoy.kind, "decoy", enrollment.enrolled_ns, (enrollment.agent,))
        for planted in self._known.planted:
            if planted.path.startswith(home):
                yield self._unseen(planted.path, planted.kind, "planted", planted.planted_ns, ())

    def _moved(self) -> Iterator[CredentialRow]:
        """What is in the vault, with the places where it was if the journal may be read."""
        home = self._owner.home.rstrip("/")
        for enrollment in self._own:
            places = {
                moved.id: (f"{home}/{moved.file}", ".".join(moved.path))
                for each in self._known.transactions
                if (each.agent, each.owner_uid) == (enrollment.agent, enrollment.owner_uid)
                for moved in each.moved
            }
            for credential in enrollment.credentials:
                path, name = places.get(credential, ("", credential))
                holds = f"{enrollment.agent} {credential.rpartition('/')[2]}"
                yield self._unseen(path, holds, "vault", enrollment.enrolled_ns, (enrollment.agent,), name)

    def _unseen(  # noqa: PLR0913, PLR0917 - what is known of a credential without looking at it
        self, path: str, holds: str, state: str, since_ns: int, agents: tuple[str, ...], name: str = ""
    ) -> CredentialRow:
        return CredentialRow(
            path=plain(path.encode("utf-8", "surrogateescape")),
            name=name,
            line=0,
            holds=holds,
            state=state,
            source="records",
            agents=agents,
            opened=False,
            watched=state != "vault",
            files=1,
            mtime_ns=since_ns,
            age_days=max(0, (self._now_ns - since_ns) // NS_PER_DAY),
            mode="",
            owner_uid=self._owner.uid,
            readers=Readers(),
            who="the broker alone" if state == "vault" else who_reads(self._owner.uid, Readers()),
            remedies=(),
        )


def _whose(seen: Sighting, found: Iterable[str]) -> tuple[str, ...]:
    """Return the agents that may take it along: of a variable, also those that are there and read another's."""
    return (*seen.agents, *(found if seen.source in _EXPORTED else ()))


def _hashes(enrollment: Enrollment) -> Iterator[str]:
    for binary in enrollment.binaries:
        yield binary.sha256 if binary.script is None else binary.script.sha256


def _closing(seen: Sighting) -> Iterator[str]:
    """Take a file from everybody but its owner, if others can read it."""
    readers = seen.readers
    if readers.users or (readers.groups and seen.mode & 0o070 == 0):
        yield f"setfacl -b {shell_word(seen.path)}"
    if readers.everybody or any(_members(gid, seen.uid) for gid in readers.groups) or readers.users:
        mode = "700" if seen.files > 1 else f"{seen.mode & 0o700:03o}"
        yield f"chmod {mode} {shell_word(seen.path)}"


def who_reads(owner_uid: int, readers: Readers) -> str:
    """Say who can read a file besides root."""
    if readers.everybody:
        return "everybody on this machine"
    owner = "root" if owner_uid == 0 else f"every process of {_user(owner_uid)}"
    groups = [f"group {_group(gid)}" for gid in readers.groups if _members(gid, owner_uid)]
    return ", ".join([owner, *groups, *(_user(uid) for uid in readers.users)])


def shell_word(path: bytes) -> str:
    """Return a path as one word of a shell, in visible characters: bash, zsh and ksh read ``$'...'``."""
    try:
        text = path.decode()
    except UnicodeDecodeError:
        text = ""
    if text and text.isprintable():
        return shlex.quote(text)
    return "$'" + re.sub(rb"[^A-Za-z0-9/._ -]", lambda found: b"\\x%02x" % found[0][0], path).decode("ascii") + "'"


@lru_cache(maxsize=256)
def _user(uid: int) -> str:
    return _named(lambda: pwd.getpwuid(uid).pw_name, uid)


@lru_cache(maxsize=256)
def _group(gid: int) -> str:
    return _named(lambda: grp.getgrgid(gid).gr_name, gid)


def _named(look_up: Callable[[], str], number: int) -> str:
    try:
        return plain(look_up().encode("utf-8", "surrogateescape"))
    except KeyError:
        return str(number)


@lru_cache(maxsize=256)
def _members(gid: int, owner_uid: int) -> bool:
    """Whether anybody but the owner is in a group, as far as the databases tell; one without an entry counts as so."""
    try:
        listed = set(grp.getgrgid(gid).gr_mem)
    except KeyError:
        return gid != owner_uid and not _is_private(gid, owner_uid)
    others = listed - {_user(owner_uid)}
    return bool(others) or any(each.pw_gid == gid and each.pw_uid != owner_uid for each in pwd.getpwall())


def _is_private(gid: int, owner_uid: int) -> bool:
    try:
        return pwd.getpwuid(owner_uid).pw_gid == gid
    except KeyError:
        return False
