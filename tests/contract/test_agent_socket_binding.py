"""Taking a place in the file system: from nobody who is alive, and from no file that is not a socket."""

import os
import socket
import stat

import pytest

from agent_broker.errors import MisuseError, UnavailableError
from agent_broker.transport.agent_socket import AgentSocket, bind_agent_socket
from agent_broker.transport.listener import bind_unix_listener
from agent_broker.transport.peer import PeerMethod
from tests.fakes.seqpacket import connected, open_descriptors


@pytest.fixture
def path(tmp_path):
    tmp_path.chmod(0o755)
    return tmp_path / "agent.sock"


def test_everybody_may_connect_whatever_the_mask(path):
    before = os.umask(0o077)
    try:
        with bind_agent_socket(path), connected(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o666
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)


def test_other_kinds_and_modes(path):
    with bind_unix_listener(path, kind=socket.SOCK_STREAM, mode=0o600) as listener:
        assert listener.type == socket.SOCK_STREAM
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_stale_socket_is_replaced(path):
    bind_agent_socket(path).close()
    assert path.exists()
    with bind_agent_socket(path), connected(path):
        pass


@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_STREAM])
def test_a_socket_that_somebody_listens_on_is_not(path, kind):
    with bind_unix_listener(path, kind=kind, mode=0o600) as first:
        before = open_descriptors()
        with pytest.raises(UnavailableError, match="listens"):
            bind_agent_socket(path)
        assert open_descriptors() == before
        probe = socket.socket(socket.AF_UNIX, kind)
        with probe:
            probe.connect(str(path))
            assert first.accept()[0].close() is None


def test_a_full_queue_is_somebody(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as first:
        first.bind(str(path))
        first.listen(0)
        with connected(path), pytest.raises(UnavailableError, match="listens"):
            bind_agent_socket(path)


def test_a_file_is_not_deleted(path):
    path.write_text("precious")
    with pytest.raises(MisuseError, match="not a socket"):
        bind_agent_socket(path)
    assert path.read_text() == "precious"


def test_a_link_is_not_followed(path, tmp_path):
    bind_agent_socket(tmp_path / "other").close()
    path.symlink_to(tmp_path / "other")
    with pytest.raises(MisuseError, match="not a socket"):
        bind_agent_socket(path)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_folder_that_others_can_write_to_is_refused(path, mode):
    path.parent.chmod(mode)
    with pytest.raises(MisuseError, match="others can replace"):
        bind_agent_socket(path)
    assert not path.exists()


def test_a_missing_folder(path):
    with pytest.raises(UnavailableError, match="No such file"):
        bind_agent_socket(path.parent / "missing" / "agent.sock")


def test_a_path_that_is_too_long(path):
    with pytest.raises(MisuseError, match="too long"):
        bind_agent_socket(path.with_name("x" * 108))


async def never(_request, _peer):
    raise NotImplementedError


@pytest.mark.parametrize(
    "make",
    [
        lambda _path: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        lambda path: bind_unix_listener(path, kind=socket.SOCK_STREAM, mode=0o600),
        lambda _path: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET),
    ],
    ids=["tcp", "stream", "not listening"],
)
def test_only_a_listening_seqpacket_socket_can_be_handed_over(path, make):
    with make(path) as listener, pytest.raises(MisuseError, match="handed over"):
        AgentSocket.from_listening(listener, never, method=PeerMethod.SO_PEERCRED)
