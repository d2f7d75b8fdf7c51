"""A program of the user that speaks the agent's protocol by itself: asks for keys, and for a signature. Says both."""

import base64
import socket
import sys
from pathlib import Path


def string(data):
    return len(data).to_bytes(4, "big") + data


def ask(path, body):
    with socket.socket(socket.AF_UNIX) as end:
        end.settimeout(30)
        try:
            end.connect(path)
            end.sendall(string(body))
            return end.recv(65536)[4:]
        except OSError as error:
            return str(error).encode()


def main():
    path, public = sys.argv[1:3]
    key = base64.b64decode(Path(public).read_text(encoding="utf-8").split()[1])
    file_to_sign = b"SSHSIG" + string(b"git") + string(b"") + string(b"sha512") + string(b"h" * 64)
    listed = ask(path, b"\x0b")
    signed = ask(path, b"\x0d" + string(key) + string(file_to_sign) + bytes(4))
    print("ran: asks the ssh-agent; listed", key in listed, "signed", signed[:1] == b"\x0e", "answer", signed[:1].hex())


main()
