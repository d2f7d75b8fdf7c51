"""An HTTP service on loopback, as chats and pagers have one."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Service:
    """An HTTP service that keeps what is posted; ``status`` is what it answers, ``gate`` holds answers up."""

    def __init__(self):
        self.posts = []
        self.status = 200
        self.gate = threading.Event()
        self.gate.set()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.gate.wait()
                service.posts.append((self.path, self.headers, body))
                self.send_response(service.status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def end(self):
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
