"""Which account is meant: by folder, once for a program."""

import os
import subprocess

import msgspec
import pytest

from agent_broker.errors import RefusedError
from agent_broker.grant import accounts as accounts_module
from agent_broker.grant.accounts import Accounts
from agent_broker.identity.evidence import Evidence, Freshness
from agent_broker.identity.folder import folder_of
from agent_broker.identity.registry import Account, Enrollment, RoleRule
from agent_broker.ids import AgentName, CredentialId, Epoch, ExecId, ProcId, Uid

WORK = CredentialId("claude/1000/api-key")
PRIVATE = CredentialId("claude/1000/private/api-key")
ODD = CredentialId("claude/1000/odd/api-key")


def enrolled(*accounts, uid=1000):
    return Enrollment(
        agent=AgentName("claude"), owner_uid=Uid(uid), owner_name="me", binaries=(), role=RoleRule(("claude",)),
        decoys=(), credentials=(WORK,), enrolled_ns=0, accounts=accounts,
    )  # fmt: skip


BOTH = enrolled(
    Account("work", WORK, ("/home/me/private/for-work",)),
    Account("private", PRIVATE, ("/home/me/private", "/srv/p\udcff")),
    Account("odd", ODD, ("/",)),
)


def agent(folder: bytes, exec_id=1, proc_id=1):
    freshness = Freshness(Epoch("e"), ProcId(proc_id), ExecId(exec_id), 0)
    return Evidence(freshness, Uid(1000), (), None, (), "observe+", folder)


@pytest.mark.parametrize(
    ("folder", "credential"),
    [
        (b"/home/me/private", PRIVATE),
        (b"/home/me/private/a/b", PRIVATE),
        (b"/home/me/private/for-work", WORK),
        (b"/home/me/private/for-work/x", WORK),
        (b"/home/me/private/for-workers", PRIVATE),
        (b"/home/me/private-not", ODD),
        (b"/home/me/private\n", ODD),
        (b"/srv/p\xff/x", PRIVATE),
        (b"/", ODD),
    ],
)
def test_the_longest_folder_that_covers_it(folder, credential):
    assert Accounts(lambda: (BOTH,)).choose(agent(folder), WORK) == credential


def test_elsewhere_it_is_the_enrolled_one():
    two = enrolled(Account("work", WORK), Account("private", PRIVATE, ("/p",)))
    assert Accounts(lambda: (two,)).choose(agent(b"/q"), WORK) == WORK


def test_without_folders_nobody_needs_to_know_where_it_works():
    for one in (enrolled(), enrolled(Account("work", WORK), Account("private", PRIVATE)), enrolled(uid=1001)):
        assert Accounts(lambda one=one: (one,)).choose(agent(b""), WORK) == WORK


def test_a_folder_that_is_not_known_is_refused():
    with pytest.raises(RefusedError, match="can't be told") as caught:
        Accounts(lambda: (BOTH,)).choose(agent(b""), WORK)
    assert caught.value.rule == "account"


def test_the_folder_of_a_process_is_the_kernels_word_and_empty_if_it_is_gone(tmp_path):
    place = os.fsencode(tmp_path) + b"/odd \n\xff"
    os.mkdir(place)  # noqa: PTH102 - not a name that pathlib takes
    with subprocess.Popen(["/bin/sleep", "60"], cwd=place, env={"PWD": "/elsewhere"}) as process:
        assert folder_of(process.pid) == place
        os.rmdir(place)  # noqa: PTH106
        assert folder_of(process.pid) == b""
        process.kill()
    assert folder_of(process.pid) == b""


def test_an_agent_that_moves_stays_with_the_account_that_it_began_with():
    accounts = Accounts(lambda: (BOTH,))
    assert accounts.choose(agent(b"/home/me/private"), WORK) == PRIVATE
    assert accounts.choose(agent(b"/elsewhere"), WORK) == PRIVATE
    assert accounts.choose(agent(b""), WORK) == PRIVATE
    assert accounts.choose(agent(b"/elsewhere", exec_id=2), WORK) == ODD
    assert accounts.choose(agent(b"/elsewhere", proc_id=2), WORK) == ODD


def test_an_account_that_is_gone_is_chosen_anew():
    now = [BOTH]
    accounts = Accounts(lambda: tuple(now))
    assert accounts.choose(agent(b"/home/me/private"), WORK) == PRIVATE
    now[:] = [msgspec.structs.replace(BOTH, accounts=(BOTH.accounts[0], BOTH.accounts[2]))]
    assert accounts.choose(agent(b"/home/me/private"), WORK) == ODD


def test_what_is_remembered_is_bounded_and_the_oldest_is_forgotten(monkeypatch):
    monkeypatch.setattr(accounts_module, "MAX_CHOICES", 2)
    accounts = Accounts(lambda: (BOTH,))
    for proc_id in (1, 2, 3):
        accounts.choose(agent(b"/home/me/private", proc_id=proc_id), WORK)
    assert accounts.choose(agent(b"/elsewhere", proc_id=3), WORK) == PRIVATE
    assert accounts.choose(agent(b"/elsewhere", proc_id=1), WORK) == ODD
