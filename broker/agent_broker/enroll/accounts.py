"""Further accounts of an enrolled agent: another key beside the enrolled one, and the folders where it is used.

Vault, then registry, then policy: an account counts once it is in the registry, and is refused until its rule is there.
After a kill, vault records that nothing refers to may be left, or an account without a rule: ``remove`` it. An error
undoes what was done. No file of the user's is touched: the key comes from whoever calls, and goes with the account.
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import msgspec

from agent_broker.enroll.account_keys import ACCOUNTS_AT, SPEAKS_TWO_WAYS, attributes_of, cloud_of, is_login, kind_of
from agent_broker.enroll.file_state import sha256_of
from agent_broker.enroll.journal import TransactionFolder
from agent_broker.enroll.policy_file import policy_path, policy_text, remove_policy, write_policy
from agent_broker.enroll.ports import CredentialStore, Site
from agent_broker.errors import AgentBrokerError, MisuseError
from agent_broker.identity.registry import Account, Enrollment, load_registry, save_enrollment
from agent_broker.ids import ACCOUNT_NAMES, AgentName, CredentialId, Uid, is_account_name
from agent_broker.vault.secret import Secret

MAX_ACCOUNTS: Final = 16
MAX_FOLDERS: Final = 64
_ANOTHER: Final = "for another login: agent-broker unenroll {agent}, change its settings, enroll it again"


class AccountStore(CredentialStore, Protocol):
    """A vault that can forget one account."""

    def remove_account(self, agent: AgentName, owner_uid: Uid, account: str) -> int:
        """Delete the credential and the phantom of one account; return how many records that were."""
        ...


@dataclass(frozen=True)
class NewAccount:
    """What is added."""

    agent: AgentName
    owner_uid: Uid
    name: str
    key: str
    """See account_keys.KINDS."""
    secret: Secret
    folders: tuple[str, ...] = ()
    place: Mapping[str, str] = field(default_factory=dict)
    """What the enrolled credential is bound to at a cloud (vault.record): this one is bound to the same."""

    @property
    def credential(self) -> CredentialId:
        """Its id in the vault."""
        return CredentialId(f"{self.agent}/{self.owner_uid}/{self.name}/{self.key}")


def add_account(site: Site, store: AccountStore, new: NewAccount) -> tuple[str, ...]:
    """Add an account; in force on return. Return what somebody must look at.

    Raises:
        MisuseError: the agent is not enrolled, or the account can't be; nothing was changed.
        UnavailableError: another transaction is at work; the vault or the disk did not do its part.
    """
    with TransactionFolder(site.journal_dir) as journal:
        enrollment = _enrolled(site, journal, new.agent, new.owner_uid)
        require_possible(enrollment, new)
        try:
            return _add(site, store, enrollment, new)
        except (AgentBrokerError, OSError, KeyboardInterrupt):
            _undo(site, store, enrollment, new)
            raise


def assign_folders(
    site: Site, agent: AgentName, owner_uid: Uid, name: str, folders: tuple[str, ...]
) -> tuple[str, ...]:
    """Let an account be used in these folders and in no other; in force on return, for agents that start from then on.

    Raises: see add_account.
    """
    with TransactionFolder(site.journal_dir) as journal:
        enrollment = _enrolled(site, journal, agent, owner_uid)
        account = _account(enrollment, name)
        others = tuple(each for each in enrollment.accounts if each is not account)
        _require_free(others, folders)
        _require_same_way(enrollment, account.credential, folders)
        changed = msgspec.structs.replace(account, folders=folders)
        _save(site, enrollment, [changed if each is account else each for each in enrollment.accounts])
        return site.watch.reload().problems


def remove_account(site: Site, store: AccountStore, agent: AgentName, owner_uid: Uid, name: str) -> tuple[str, ...]:
    """Forget an account and its key; in force on return.

    Raises: see add_account; MisuseError also for the enrolled credential's account.
    """
    with TransactionFolder(site.journal_dir) as journal:
        enrollment = _enrolled(site, journal, agent, owner_uid)
        account = _account(enrollment, name)
        if account is enrollment.accounts[0]:
            raise MisuseError(f"{name} is the enrolled account", next_step=f"agent-broker unenroll {agent}")
        left = remove_policy(account_policy(site, agent, owner_uid, name), account.policy_sha256)
        _save(site, enrollment, [each for each in enrollment.accounts if each is not account])
        problems = site.watch.reload().problems
        store.remove_account(agent, owner_uid, name)
        return (*([left] if left else []), *problems)


def require_possible(enrollment: Enrollment, new: NewAccount) -> None:
    """Return if the enrolment can have this account; its secret is not looked at.

    Raises:
        MisuseError: it can't.
    """
    name = new.name
    kind_of(new.agent, new.key)
    if not is_account_name(name):
        raise MisuseError(ACCOUNT_NAMES)
    if any(each.name == name for each in enrollment.accounts):
        again = f"agent-broker account remove {enrollment.agent} {name}"
        raise MisuseError(f"{enrollment.agent} has an account {name} already", next_step=again)
    if len(enrollment.accounts) >= MAX_ACCOUNTS:
        raise MisuseError(f"an agent has at most {MAX_ACCOUNTS} accounts")
    _require_free(enrollment.accounts, new.folders)
    _require_same_way(enrollment, new.credential, new.folders)


def account_policy(site: Site, agent: AgentName, owner_uid: Uid, name: str) -> Path:
    """Return where an account's rule is."""
    return policy_path(site.policy_dir, agent, owner_uid, name)


def folder_named(path: Path) -> str:
    """Return a folder as the kernel will name it to us.

    Raises:
        MisuseError: there is none, or a link leads to it.
    """
    named, real = os.path.abspath(path), os.path.realpath(path)  # noqa: PTH100 - pathlib keeps ".."
    if named != real:
        raise MisuseError(f"{named} is reached through a symbolic link", next_step=f"name the folder itself: {real}")
    if not Path(real).is_dir() or "\n" in real or not real.isprintable():
        raise MisuseError(f"there is no folder {real!a}, or its name can't be printed")
    return real


def _add(site: Site, store: AccountStore, enrollment: Enrollment, new: NewAccount) -> tuple[str, ...]:
    agent, owner_uid = new.agent, new.owner_uid
    kind = kind_of(agent, new.key)
    store.put_credential(new.credential, kind, new.secret, {**new.place, **attributes_of(kind, new.secret)})
    enrolled = enrollment.accounts[0]
    if len(enrollment.accounts) == 1:
        store.make_phantom(agent, owner_uid, enrolled.credential, enrolled.name)
    store.make_phantom(agent, owner_uid, new.credential, new.name)
    path, text = account_policy(site, agent, owner_uid, new.name), _rule(enrollment, new)
    is_ours = not path.exists() or path.read_bytes() == text
    account = Account(new.name, new.credential, new.folders, sha256_of(text) if is_ours else None)
    _save(site, enrollment, [*enrollment.accounts, account])
    if is_ours:
        write_policy(path, text)
    problem = f"{path} was there already and stays: make sure that it allows {new.credential}"
    return (*(() if is_ours else (problem,)), *site.watch.reload().problems)


def _undo(site: Site, store: AccountStore, enrollment: Enrollment, new: NewAccount) -> None:
    """Put registry and policy back; what is left in the vault then is referred to by nothing."""
    save_enrollment(site.registry_dir, enrollment)
    path = account_policy(site, new.agent, new.owner_uid, new.name)
    remove_policy(path, sha256_of(_rule(enrollment, new)))
    with contextlib.suppress(AgentBrokerError):  # the first error is the one to tell
        store.remove_account(new.agent, new.owner_uid, new.name)
        site.watch.reload()


def _save(site: Site, enrollment: Enrollment, accounts: list[Account]) -> None:
    save_enrollment(site.registry_dir, msgspec.structs.replace(enrollment, accounts=tuple(accounts)))


def _rule(enrollment: Enrollment, new: NewAccount) -> bytes:
    made_by = f"account add {new.agent} {new.name} --user {enrollment.owner_name}"
    return policy_text(new.agent, new.owner_uid, new.credential, made_by)


def _enrolled(site: Site, journal: TransactionFolder, agent: AgentName, owner_uid: Uid) -> Enrollment:
    transaction = journal.find(agent, owner_uid)
    found = [each for each in load_registry(site.registry_dir) if (each.agent, each.owner_uid) == (agent, owner_uid)]
    if not found or (transaction is not None and transaction.state != "enrolled"):
        raise MisuseError(
            f"{agent} of user id {owner_uid} is not enrolled, or is half-way",
            next_step=f"agent-broker enroll {agent}; after a crash: agent-broker enroll --recover",
        )
    if not found[0].accounts:
        raise MisuseError(
            f"{agent} was enrolled by a version without accounts", next_step=f"unenroll {agent} and enroll it again"
        )
    return found[0]


def _account(enrollment: Enrollment, name: str) -> Account:
    for each in enrollment.accounts:
        if each.name == name:
            return each
    names = ", ".join(each.name for each in enrollment.accounts)
    raise MisuseError(f"{enrollment.agent} has no account of that name; it has: {names}")


def _require_same_way(enrollment: Enrollment, credential: CredentialId, folders: tuple[str, ...]) -> None:
    enrolled = enrollment.accounts[0].credential
    cloud = cloud_of(enrolled)
    if cloud not in ACCOUNTS_AT:
        raise MisuseError(
            f"{enrollment.agent} is enrolled at {cloud}, where it can't have several accounts",
            next_step=_ANOTHER.format(agent=enrollment.agent),
        )
    if cloud_of(credential) != cloud:
        there = f"at {cloud}, where an account has a key of the kind bedrock-api-key" if cloud else "at its maker"
        raise MisuseError(
            f"{enrollment.agent} is enrolled {there}; it can't use this one without other settings",
            next_step=_ANOTHER.format(agent=enrollment.agent),
        )
    if folders and enrollment.agent in SPEAKS_TWO_WAYS and is_login(credential) != is_login(enrolled):
        ways = ("a login", "a key") if is_login(enrolled) else ("a key", "a login")
        raise MisuseError(
            f"{enrollment.agent} is enrolled with {ways[0]} and speaks another protocol with {ways[1]}: "
            "a folder can't choose between them",
            next_step=f"leave --dir out; start it with: agent-broker run --as NAME {enrollment.agent}",
        )


def _require_free(others: tuple[Account, ...], folders: tuple[str, ...]) -> None:
    if len(folders) > MAX_FOLDERS:
        raise MisuseError(f"an account has at most {MAX_FOLDERS} folders")
    for each in others:
        taken = set(each.folders) & set(folders)
        if taken:
            raise MisuseError(f"{min(taken)} is the account {each.name}'s already")
