"""Credentials that an enrolled tool is given after it was enrolled, or that are taken from it again.

Vault, then registry: a credential counts once the vault has it, and is listed once the registry names it. After a kill
between the two it works and is not listed; adding it again lists it. No file of the user's is touched, so what is added
here is nowhere else: undoing the enrolment deletes it (``only_in_vault`` says what that would be).

A link that a tool runs for a credential (helper_links) is journalled, then made, before the vault has the credential.
It stays when the credential goes, and its name is given to no other one: a line of the user's may still name it, for
the place that it was for.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from agent_broker.enroll.helper_links import make_links
from agent_broker.enroll.journal import TransactionFolder
from agent_broker.enroll.ports import Site
from agent_broker.enroll.tool_plan import names_for
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import Enrollment, load_registry, save_enrollment
from agent_broker.ids import AgentName, CredentialId, Uid, parts_of
from agent_broker.vault.secret import Secret


def add_credential(  # noqa: PLR0913, PLR0917 - what is kept of it
    site: Site, credential: CredentialId, kind: str, secret: Secret, attributes: Mapping[str, str], link: str = ""
) -> tuple[str, ...]:
    """Keep a tool's credential, or another value of one that it has; in force on return.

    Args:
        site: where.
        credential: its id.
        kind: of it.
        secret: its value.
        attributes: what it is for.
        link: path of the link that the tool runs for it; empty: it runs none.

    Returns:
        What somebody must look at.

    Raises:
        MisuseError: the tool is not enrolled, or something else is in the link's place.
        UnavailableError: another transaction is at work; the vault or the disk did not do its part.
    """
    tool, owner_uid, _ = parts_of(credential)
    with TransactionFolder(site.journal_dir) as journal:
        folder, enrollment = _enrolled(site, journal, tool, owner_uid)
        if link:
            _have_link(journal, enrollment, link)
        site.store.put_credential(credential, kind, secret, attributes)
        named = tuple(dict.fromkeys((*enrollment.credentials, credential)))
        save_enrollment(folder, msgspec.structs.replace(enrollment, credentials=named))
        return site.watch.reload().problems


def remove_credential(site: Site, credential: CredentialId) -> tuple[str, ...]:
    """Forget a tool's credential; it is gone on return. Returns and raises as ``add_credential``."""
    tool, owner_uid, _ = parts_of(credential)
    with TransactionFolder(site.journal_dir) as journal:
        folder, enrollment = _enrolled(site, journal, tool, owner_uid)
        left = tuple(each for each in enrollment.credentials if each != credential)
        save_enrollment(folder, msgspec.structs.replace(enrollment, credentials=left))
        if not site.store.remove_credential(credential):
            raise MisuseError(f"the vault holds no {credential}", next_step="agent-broker credentials")
        return site.watch.reload().problems


def free_id(tool: AgentName, owner_uid: Uid, wanted: str, taken: Iterable[CredentialId]) -> CredentialId:
    """Return an id for a credential that is called like a host or a file, and that no other has."""
    others = [each.rpartition("/")[2] for each in taken]
    candidates = dict.fromkeys(names_for([wanted] * (len(others) + 1)))
    free = next(each for each in candidates if each not in others)
    return CredentialId(f"{tool}/{owner_uid}/{free}")


def linked(site: Site, tool: AgentName, owner_uid: Uid) -> tuple[str, ...]:
    """Return the paths of the links that were made for a tool's credentials, those that are gone included.

    Raises:
        UnavailableError: another transaction is at work.
    """
    with TransactionFolder(site.journal_dir) as journal:
        transaction = journal.find(tool, owner_uid)
    return () if transaction is None else transaction.links


def only_in_vault(site: Site, tool: AgentName, owner_uid: Uid) -> tuple[CredentialId, ...]:
    """Return the credentials of a tool that no file had when it was enrolled: undoing the enrolment deletes them.

    Raises:
        UnavailableError: another transaction is at work.
    """
    with TransactionFolder(site.journal_dir) as journal:
        transaction = journal.find(tool, owner_uid)
    moved = set() if transaction is None else {each.id for each in transaction.moved}
    tools = () if site.tools_dir is None else load_registry(site.tools_dir)
    mine = (each for each in tools if (each.agent, each.owner_uid) == (tool, owner_uid))
    return tuple(credential for each in mine for credential in each.credentials if credential not in moved)


def _have_link(journal: TransactionFolder, enrollment: Enrollment, link: str) -> None:
    transaction = journal.find(enrollment.agent, enrollment.owner_uid)
    if transaction is not None and enrollment.serving is not None:  # it is enrolled, and has a shim
        journal.write(msgspec.structs.replace(transaction, links=tuple(dict.fromkeys((*transaction.links, link)))))
        make_links([link], enrollment.serving.shim)


def _enrolled(site: Site, journal: TransactionFolder, tool: AgentName, owner_uid: Uid) -> tuple[Path, Enrollment]:
    transaction = journal.find(tool, owner_uid)
    if site.tools_dir is not None and transaction is not None and transaction.state == "enrolled":
        for each in load_registry(site.tools_dir):
            if (each.agent, each.owner_uid) == (tool, owner_uid):
                return site.tools_dir, each
    raise MisuseError(
        f"{tool} of user id {owner_uid} is not enrolled, or is half-way",
        next_step=f"agent-broker enroll {tool}; after a crash: agent-broker enroll --recover",
    )
