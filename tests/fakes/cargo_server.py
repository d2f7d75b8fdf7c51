"""A cargo registry that demands a token: a sparse index and the owners of its crates; see token_server."""

from tests.fakes.token_server import TokenHandler, serve


class Handler(TokenHandler):
    """One request."""

    def respond(self) -> None:
        presented = self.presented()
        if self.path.endswith("/index/config.json"):
            address = f"http://127.0.0.1:{self.server.server_address[1]}"
            self.answer(200, {"dl": f"{address}/dl", "api": address})
        elif presented != self.token:
            self.answer(403, {"errors": [{"detail": "no"}]})
        else:
            self.answer(200, {"users": [{"id": 1, "login": "alice", "name": "Alice"}]})


if __name__ == "__main__":
    serve(Handler)
