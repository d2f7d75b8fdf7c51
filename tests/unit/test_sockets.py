"""Where a socket is looked for: in its last holder's table while that has all there is, else in everybody's."""

import pytest

from agent_broker.identity.sockets import Sockets
from tests.fakes.kernel import FakeKernel

SOCKET, BROKERS, HOLDER, THIEF = 7, 8, 300, 400


@pytest.fixture
def kernel():
    kernel = FakeKernel()
    kernel.sockets[SOCKET] = [HOLDER]
    kernel.other_ends[BROKERS] = SOCKET
    return kernel


@pytest.fixture
def sockets(kernel):
    return Sockets(kernel)


def pids(found):
    return [each.pid for each in found]


def searches(kernel):
    """In whose tables it was looked since the last call; 0: everybody's."""
    done, kernel.searches = kernel.searches, []
    return done


def test_a_socket_is_looked_for_everywhere_first_and_then_where_it_was(kernel, sockets):
    assert pids(sockets.holders(SOCKET)) == [HOLDER]
    assert searches(kernel) == [0]

    assert pids(sockets.holders(SOCKET)) == [HOLDER]
    assert searches(kernel) == [HOLDER]


def test_a_good_guess_saves_the_look_at_everybody(kernel, sockets):
    assert pids(sockets.holders(SOCKET, HOLDER)) == [HOLDER]
    assert pids(sockets.holders(SOCKET)) == [HOLDER]

    assert searches(kernel) == [HOLDER, HOLDER]


def test_a_wrong_guess_hides_nobody(kernel, sockets):
    assert pids(sockets.holders(SOCKET, THIEF)) == [HOLDER]

    kernel.sockets[SOCKET] = [HOLDER, THIEF]
    assert pids(Sockets(kernel).holders(SOCKET, HOLDER)) == [HOLDER, THIEF]


def test_another_holder_is_found_although_the_first_one_is_known(kernel, sockets):
    sockets.holders(SOCKET)
    kernel.sockets[SOCKET] = [HOLDER, THIEF]

    assert pids(sockets.holders(SOCKET)) == [HOLDER, THIEF]


def test_a_reference_that_nobody_shows_is_looked_for_everywhere(kernel, sockets):
    sockets.holders(SOCKET)
    kernel.hidden_references[SOCKET] = 1
    searches(kernel)

    assert sockets.holders(SOCKET)[0].references == 2
    assert searches(kernel) == [HOLDER, 0]


def test_a_table_that_others_use_too_is_not_enough(kernel, sockets):
    sockets.holders(SOCKET)
    kernel.sharers[SOCKET] = 1
    searches(kernel)

    sockets.holders(SOCKET)

    assert searches(kernel) == [HOLDER, 0]


def test_a_socket_that_went_to_another_process_is_found_there(kernel, sockets):
    sockets.holders(SOCKET)
    kernel.sockets[SOCKET] = [THIEF]

    assert pids(sockets.holders(SOCKET)) == [THIEF]
    searches(kernel)
    sockets.holders(SOCKET)
    assert searches(kernel) == [THIEF]


def test_two_holders_are_not_remembered(kernel, sockets):
    kernel.sockets[SOCKET] = [HOLDER, THIEF]
    sockets.holders(SOCKET)
    searches(kernel)

    sockets.holders(SOCKET)

    assert searches(kernel) == [0]


def test_the_other_end_is_looked_for_where_its_holder_is(kernel, sockets):
    assert sockets.other_end_of(BROKERS) == SOCKET
    sockets.holders(SOCKET)
    assert sockets.other_end_of(BROKERS) == SOCKET
    searches(kernel)

    assert sockets.other_end_of(BROKERS) == SOCKET
    assert searches(kernel) == [HOLDER]


def test_an_other_end_that_went_elsewhere_or_is_gone_is_not_made_up(kernel, sockets):
    sockets.holders(SOCKET)
    sockets.other_end_of(BROKERS)
    kernel.sockets[SOCKET] = [THIEF]
    assert sockets.other_end_of(BROKERS) == SOCKET

    kernel.other_ends.clear()
    assert sockets.other_end_of(BROKERS) == 0


def test_what_is_remembered_is_bounded(kernel, sockets, monkeypatch):
    monkeypatch.setattr("agent_broker.identity.sockets._REMEMBERED", 2)
    for inode in (1, 2, 3):
        kernel.sockets[inode] = [HOLDER]
        sockets.holders(inode)
    searches(kernel)

    for inode in (1, 3):
        sockets.holders(inode)

    assert searches(kernel) == [0, HOLDER]
