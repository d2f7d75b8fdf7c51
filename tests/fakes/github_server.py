"""A GitHub Enterprise API over TLS that demands a token and knows one user; see token_server."""

from tests.fakes.token_server import TokenHandler, serve


class Handler(TokenHandler):
    """One request."""

    def respond(self) -> None:
        if self.presented("token ") != self.token:
            self._answer(401, {"message": "Bad credentials"})
        else:
            self._answer(200, {"login": "alice", "data": {"viewer": {"login": "alice"}}})

    def _answer(self, code: int, content: dict[str, object]) -> None:
        self.answer(code, content, {"X-OAuth-Scopes": "repo, read:org, gist"})


if __name__ == "__main__":
    serve(Handler)
