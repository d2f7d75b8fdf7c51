"""Questions and answers of sock_diag, encoded and decoded by pyroute2.

Loaded with the first question (inject.sock_diag): all of pyroute2 is loaded with it, 10 MB that an idle broker does
without.
"""

import socket
import struct
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from pyroute2.netlink import NLM_F_REQUEST
from pyroute2.netlink.diag import (
    SOCK_DIAG_BY_FAMILY,
    UDIAG_SHOW_PEER,
    inet_diag_msg,
    inet_diag_req,
    unix_diag_msg,
    unix_diag_req,
)

Address = IPv4Address | IPv6Address
Side = tuple[Address, int]

_ANY_STATE: Final = 0xFFFFFFFF
_NO_COOKIE: Final = 0xFFFFFFFFFFFFFFFF  # INET_DIAG_NOCOOKIE, twice


def tcp_question(own: Side, peer: Side) -> bytes:
    """Return the question for the TCP socket between two addresses and ports."""
    request = inet_diag_req()
    request["sdiag_family"] = socket.AF_INET6 if isinstance(own[0], IPv6Address) else socket.AF_INET
    request["sdiag_protocol"] = socket.IPPROTO_TCP
    request["idiag_states"] = _ANY_STATE
    request["idiag_src"], request["idiag_sport"] = _words(own[0]), own[1]
    request["idiag_dst"], request["idiag_dport"] = _words(peer[0]), peer[1]
    request["idiag_cookie"] = _NO_COOKIE
    return _encoded(request)


def read_tcp(answer: bytes) -> Mapping[str, str | int]:
    """Return the fields of struct inet_diag_msg, by their names there without ``id.``; addresses as text."""
    message = inet_diag_msg(answer)
    message.decode()
    return {name: message[name] for name in _TCP_FIELDS}


_TCP_FIELDS: Final = (
    "idiag_inode",
    "idiag_src",
    "idiag_sport",
    "idiag_dst",
    "idiag_dport",
    "idiag_state",
    "idiag_uid",
)


def unix_question(inode: int) -> bytes:
    """Return the question for the peer of a unix socket."""
    request = unix_diag_req()
    request["sdiag_family"] = socket.AF_UNIX
    request["udiag_states"] = _ANY_STATE
    request["udiag_ino"] = inode
    request["udiag_show"] = UDIAG_SHOW_PEER
    request["udiag_cookie"] = _NO_COOKIE
    return _encoded(request)


def read_unix_peer(answer: bytes) -> int:
    """Return the peer's inode; 0: it has none."""
    message = unix_diag_msg(answer)
    message.decode()
    return int(message.get_attr("UNIX_DIAG_PEER") or 0)


def _encoded(request: inet_diag_req | unix_diag_req) -> bytes:
    request["header"]["type"] = SOCK_DIAG_BY_FAMILY
    request["header"]["flags"] = NLM_F_REQUEST
    request.encode()
    return bytes(request.data)


def _words(address: Address) -> tuple[int, ...]:
    words = struct.unpack(f">{len(address.packed) // 4}I", address.packed)
    return words + (0,) * (4 - len(words))
