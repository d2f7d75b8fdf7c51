"""The attacker's unix socket: ``socket_thief.py FOLDER``. Keeps what it is sent. Ends with whoever started it."""

import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

FOLDER = Path(sys.argv[1])


class Thief(BaseHTTPRequestHandler):
    def serve(self) -> None:
        with (FOLDER / "log").open("a") as log:
            log.write(f"ran: the thief was sent {self.requestline}\n{self.headers}\n")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = serve  # noqa: N815 - the library's names

    def address_string(self) -> str:
        return "a unix socket"

    def log_message(self, *_: object) -> None:
        pass


ThreadingUnixStreamServer(str(FOLDER / "socket"), Thief).serve_forever()
