"""Maven from apt, at a repository that demands a password, which settings.xml names as a variable: ``run --with``.

Measured by hand (``--only maven``) and not with the others: Maven and its Java take 200 MB.
"""

import base64
import contextlib
import json
from collections.abc import Iterator

from tests.demo.machine import run_tool
from tests.demo.processes import BROKER
from tests.e2e.clients.row import REFUSED, Client, Row, Stand
from tests.e2e.clients.run_with import add, launcher, remove
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients, new_password, server

RULES = """[[rule]]
agent = "claude"
credential = "run/UID/repository"
"""
_SETTINGS = """<settings><localRepository>{local}</localRepository><servers><server>
<id>ours</id><username>alice</username><password>{password}</password>
</server></servers></settings>
"""
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion>
<parent><groupId>example</groupId><artifactId>parent</artifactId><version>1</version><relativePath/></parent>
<artifactId>mine</artifactId><packaging>pom</packaging>
<repositories><repository><id>ours</id><url>http://127.0.0.1:{port}/maven</url></repository></repositories>
</project>
"""
_VARIABLE = "${env.MAVEN_REPOSITORY_PASSWORD}"


@contextlib.contextmanager
def stand(clients: Clients) -> Iterator[Stand]:
    """A project whose parent is at the repository, and a settings.xml with the password."""
    password = new_password()
    token = base64.b64encode(f"alice:{password}".encode()).decode()
    log = clients.world.root / "logs/maven.jsonl"
    log.touch()
    options = (f"--token={token}", f"--log={log}")
    with server(clients, "file_server", "maven", *options) as port, launcher(clients) as path:
        clients.write("maven/pom.xml", _POM.replace("{port}", str(port)))
        _settings(clients, password)
        maven = "mvn -B -q -s settings.xml validate"
        yield Stand(
            "Maven (run --with)", run_tool("/usr/bin/mvn", "--version").split()[2],
            {
                "folder": "cd ~/maven && rm -rf local && ", "maven": maven,
                "use": f"cd ~/maven && rm -rf local && {maven}",
                "run": f"{BROKER} run", "launcher": str(path), "password": password,
            },
            (password, token),
            lambda: sum(json.loads(line)["presented"] == token for line in log.read_text().splitlines()),
            (),
        )  # fmt: skip


def _settings(clients: Clients, password: str) -> None:
    text = _SETTINGS.replace("{password}", password).replace("{local}", str(clients.home / "maven/local"))
    clients.write("maven/settings.xml", text)


def _move(clients: Clients, stand: Stand) -> None:
    for name in ("repository", "other"):
        add(clients, stand, name, "--preset", "maven")
    _settings(clients, _VARIABLE)


def _put_back(clients: Clients, stand: Stand) -> None:
    remove(clients, stand)
    _settings(clients, stand.names["password"])


_RUN = "{folder}{run} --with repository -- {maven}"

CLIENT = Client(
    "maven",
    stand,
    RULES,
    (
        Row("gets its parent project", PROGRAM, "grep -q MAVEN_REPOSITORY_PASSWORD ~/maven/settings.xml && " + _RUN),
        Row("gets its parent project", TERMINAL, _RUN, says="mvn has the secret itself now"),
        Row("gets its parent project, where a rule says so", AGENT, _RUN),
        Row("is started without run", AGENT, "{folder}{maven}", REFUSED, "401"),
        Row("another secret, without a rule", AGENT, "{folder}{run} --with other -- {maven}", REFUSED,
            "no policy rule lets agent"),
        Row("another program is given it", AGENT, "{run} --with repository -- env", REFUSED,
            "no secret of these names is for /usr/bin/env"),
        Row("java alone is given it", AGENT, "{run} --with repository -- java -version", REFUSED,
            "no secret of these names is for"),
        Row("its Java runs foreign code", AGENT,
            "{folder}{launcher} repository -- $(readlink -f $(which mvn)) validate", REFUSED, "sets JAVA_TOOL_OPTIONS",
            {"JAVA_TOOL_OPTIONS": "-javaagent:/dev/null"}),
    ),
    down_says="the broker is down",
    slow_says="the broker did not answer within 6 s",
    enroll=_move,
    unenroll=_put_back,
    used=_RUN,
)  # fmt: skip
