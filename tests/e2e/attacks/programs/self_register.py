"""Tries to be registered as the agent, or to have more allowed: ``self_register.py PROGRAM``; then runs PROGRAM.

It writes where root's files are, connects to the daemons' own sockets, and asks at the socket that is for everybody.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import attacker

ROOT = Path(attacker.SET["ROOT"])
ENROLMENT = (
    '{"agent":"claude","owner_uid":%d,"owner_name":"me","binaries":[{"path":"%s","sha256":"%s","size_bytes":9}]}'
)
POLICY = '[[rule]]\nagent = "claude"\ncredential = "*"\nmodes = ["release"]\n'


def main(program: str) -> None:
    attacker.ran("tries to register itself")
    enrolment = ENROLMENT % (os.getuid(), program, "0" * 64)
    write(ROOT / "var/lib/agent-broker/registry/agents/evil.json", enrolment)
    write(ROOT / "etc/agent-broker/policy.d/evil.toml", POLICY)
    write(ROOT / "etc/agent-broker/config.toml", "")
    write(ROOT / "var/lib/agent-broker/registry/agents", enrolment)
    for path in sorted((ROOT / "run/agent-broker").iterdir()):
        for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
            connect(path, kind)
    for word in ("register", "enroll", "approve", "thaw", "allow", "admin"):
        done = subprocess.run([attacker.SET["SHIM"], word, program], capture_output=True, text=True, check=False)
        attacker.note(f"shim {word}: {done.returncode} {done.stdout}{done.stderr}")
    subprocess.run([program], check=False)


def write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        attacker.note(f"{path}: {error.strerror}")
    else:
        attacker.note(f"{path}: WRITTEN")


def connect(path: Path, kind: int) -> None:
    with socket.socket(socket.AF_UNIX, kind) as connection:
        connection.settimeout(2)
        try:
            connection.connect(str(path))
            connection.sendall(b'{"register":"me","approve":"me","thaw":"all"}\n')
            attacker.note(f"{path.name}: {connection.recv(4096)!r}")
        except OSError as error:
            attacker.note(f"{path.name}: {error}")


main(sys.argv[1])
