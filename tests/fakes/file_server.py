"""Files behind Basic authentication: a parent of Maven's projects, and a word for every other path; see token_server.

The token is the login as Basic has it: base64 of USER:PASSWORD.
"""

from tests.fakes.token_server import TokenHandler, serve

_POM = b"""<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>example</groupId><artifactId>parent</artifactId><version>1</version>
<packaging>pom</packaging>
</project>
"""


class Handler(TokenHandler):
    """One request."""

    def respond(self) -> None:
        if self.presented("Basic ") != self.token:
            self.answer(401, {"error": "a login is needed"}, {"WWW-Authenticate": 'Basic realm="files"'})
        elif self.path.endswith(".pom"):
            self.send(200, _POM, {"Content-Type": "text/xml"})
        else:
            self.send(200, b"a file\n", {"Content-Type": "text/plain"})


if __name__ == "__main__":
    serve(Handler)
