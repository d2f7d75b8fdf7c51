"""Which of an agent's accounts a request is for: two keys for one agent (work, private), told apart by folder.

The law of this module:
1. A phantom that names an account means it, wherever the agent works; it never comes here. The agent's own phantom
   means the account of the folder in which the agent's main process was when it first asked: of the longest folder
   that covers it. No account has that folder: the enrolled credential.
2. The folder is the kernel's word (the working directory, looked at by the monitor), never the request's.
3. It is chosen once for a program image and kept until that ends: an agent that changes its folder goes on with the
   account that it began with. A choice that was forgotten (bounded; a restart) is made again from where it is then.
4. If accounts have folders and the agent's can't be told, the answer is no.

What this is not: a wall between the accounts. Whoever may start the agent may start it in any folder, and with any
account: both are the same user's and the same agent's. It keeps a bill or a project's data from the wrong account by
mistake; who must not use an account at all gets no policy rule for it, or another user.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from agent_broker.errors import RefusedError
from agent_broker.grant.ledger import Holder
from agent_broker.identity.evidence import Evidence
from agent_broker.identity.registry import Account, Enrollment
from agent_broker.ids import CredentialId, parts_of

MAX_CHOICES: Final = 4096


class Accounts:
    """See the module."""

    def __init__(self, enrollments: Callable[[], tuple[Enrollment, ...]]) -> None:
        self._enrollments = enrollments
        self._choices: OrderedDict[Holder, CredentialId] = OrderedDict()

    def choose(self, evidence: Evidence, meant: CredentialId) -> CredentialId:
        """Return the credential that an agent's request is for.

        Args:
            evidence: of the agent's main process, which was found to be that of the credential's owner.
            meant: the enrolled credential, which the agent's own phantom stands for.

        Raises:
            RefusedError: rule ``account``: the agent's folder is not known, and it matters.
        """
        accounts = self._accounts_of(meant)
        if not any(account.folders for account in accounts):
            return meant
        numbers = evidence.freshness
        holder = Holder(numbers.epoch, numbers.proc_id, numbers.exec_id)
        kept = self._choices.get(holder)
        if kept is None or kept not in {meant, *(account.credential for account in accounts)}:
            kept = _account_of(evidence.folder, accounts) or meant
        self._choices[holder] = kept
        self._choices.move_to_end(holder)
        while len(self._choices) > MAX_CHOICES:
            self._choices.popitem(last=False)
        return kept

    def _accounts_of(self, credential: CredentialId) -> tuple[Account, ...]:
        agent, owner_uid, _ = parts_of(credential)
        for each in self._enrollments():
            if (each.agent, each.owner_uid) == (agent, owner_uid):
                return each.accounts
        return ()


def _account_of(folder: bytes, accounts: tuple[Account, ...]) -> CredentialId | None:
    """Return the credential of the account with the longest folder that covers this one; None: there is none."""
    if not folder:
        raise RefusedError(
            "account",
            "the folder in which the agent works can't be told, so it is not known which account is meant",
            next_step="start it in a folder that exists, or with: agent-broker run --as NAME claude",
        )
    found = [
        (len(each), account.credential) for account in accounts for each in account.folders if _covers(each, folder)
    ]
    return max(found)[1] if found else None


def _covers(outer: str, folder: bytes) -> bool:
    prefix = os.fsencode(outer).rstrip(b"/")
    return folder == prefix or folder.startswith(prefix + b"/")
