"""Questions and answers as pyroute2 has them."""

import socket
from ipaddress import ip_address

import pytest
from pyroute2.netlink.diag import UDIAG_SHOW_PEER, inet_diag_msg, inet_diag_req, unix_diag_req

from agent_broker.inject.sock_diag_messages import HEADER, read_tcp, read_unix_peer, tcp_question, unix_question

SIDES = [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::ffff:127.0.0.1", "::ffff:10.1.2.3"), ("10.1.2.3", "10.3.2.1")]


def words(address):
    packed = address.packed.ljust(16, b"\0")
    return tuple(int.from_bytes(packed[at : at + 4], "big") for at in range(0, 16, 4))


def encoded(request):
    request["header"]["type"], request["header"]["flags"] = 20, 1
    request.encode()
    return bytes(request.data)


@pytest.mark.parametrize(("own", "peer"), SIDES)
def test_a_tcp_question_is_pyroute2s(own, peer):
    own, peer = ip_address(own), ip_address(peer)
    request = inet_diag_req()
    request["sdiag_family"] = socket.AF_INET6 if own.version == 6 else socket.AF_INET
    request["sdiag_protocol"] = socket.IPPROTO_TCP
    request["idiag_states"] = 0xFFFFFFFF
    request["idiag_src"], request["idiag_sport"] = words(own), 8811
    request["idiag_dst"], request["idiag_dport"] = words(peer), 50123
    request["idiag_cookie"] = 0xFFFFFFFFFFFFFFFF

    assert tcp_question((own, 8811), (peer, 50123)) == encoded(request)


def test_a_unix_question_is_pyroute2s():
    request = unix_diag_req()
    request["sdiag_family"] = socket.AF_UNIX
    request["udiag_states"] = 0xFFFFFFFF
    request["udiag_ino"] = 4711
    request["udiag_show"] = UDIAG_SHOW_PEER
    request["udiag_cookie"] = 0xFFFFFFFFFFFFFFFF

    assert unix_question(4711) == encoded(request)


@pytest.mark.parametrize(("own", "peer"), SIDES)
def test_a_tcp_answer_is_read_as_pyroute2_reads_it(own, peer):
    own, peer = ip_address(own), ip_address(peer)
    message = inet_diag_msg()
    message["idiag_family"] = socket.AF_INET6 if own.version == 6 else socket.AF_INET
    message["idiag_state"], message["idiag_uid"], message["idiag_inode"] = 1, 1500, 987654
    message["idiag_src"], message["idiag_sport"] = words(own), 8811
    message["idiag_dst"], message["idiag_dport"] = words(peer), 50123
    message.encode()

    found = read_tcp(bytes(message.data))

    assert (found.own, found.peer) == ((own, 8811), (peer, 50123))
    assert (found.state, found.uid, found.inode) == (1, 1500, 987654)


def unix_answer(*attributes):
    body = bytes(16) + b"".join(attributes)
    return HEADER.pack(HEADER.size + len(body), 20, 0, 0, 0) + body


def attribute(kind, value):
    padded = value + bytes(-len(value) % 4)
    return (4 + len(value)).to_bytes(2, "little") + kind.to_bytes(2, "little") + padded


def test_the_peer_is_found_behind_other_attributes_of_any_length():
    answer = unix_answer(attribute(0, b"odd"), attribute(2, (4711).to_bytes(4, "little")), attribute(6, b"x"))
    assert read_unix_peer(answer) == 4711


@pytest.mark.parametrize("answer", [unix_answer(), unix_answer(attribute(0, b"x")), unix_answer(bytes(4))])
def test_without_a_peer_there_is_none(answer):
    assert read_unix_peer(answer) == 0
