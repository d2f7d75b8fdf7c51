"""docker's client from apt, without an engine, at a registry that demands a password."""

import base64
import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.demo.machine import run_tool
from tests.e2e.clients.certificate import make_certificate
from tests.e2e.clients.row import REFUSED, Client, Row, Stand
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients, new_password, server

DOCKER = "/usr/bin/docker"

RULES = """[[rule]]
agent = "claude"
credential = "docker/UID/*"
to = "docker://{server}"
"""


@contextlib.contextmanager
def stand(clients: Clients) -> Iterator[Stand]:
    """Two registries with one login each, as docker login keeps them without a helper."""
    world = clients.world
    logins = {name: f"alice:{new_password()}" for name in ("first", "second")}

    def log_of(name: str) -> Path:
        return world.root / f"logs/registry-{name}.jsonl"

    with contextlib.ExitStack() as undo:
        ports = {}
        for name, login in logins.items():
            log_of(name).touch()
            certificate, key = make_certificate(world.root / "logs", name)
            options = (f"--login={login}", f"--log={log_of(name)}", f"--certificate={certificate}", f"--key={key}")
            ports[name] = undo.enter_context(server(clients, "registry_server", f"registry-{name}", *options))
            undo.enter_context(_believed(f"127.0.0.1:{ports[name]}", certificate))
        auths = {
            f"127.0.0.1:{ports[name]}": {"auth": base64.b64encode(login.encode()).decode()}
            for name, login in logins.items()
        }
        clients.write(".docker/config.json", json.dumps({"auths": auths, "detachKeys": "ctrl-q"}, indent="\t"))
        clients.write("password", logins["first"].partition(":")[2])
        helper = clients.home / ".local/bin/docker-credential-agent-broker"
        helper.symlink_to(world.shim)
        first = f"127.0.0.1:{ports['first']}"
        yield Stand(
            "docker", run_tool(DOCKER, "--version").split()[2].rstrip(","),
            {
                "use": f"{DOCKER} manifest inspect {first}/alice/image:1", "docker": DOCKER, "server": first,
                "second": f"127.0.0.1:{ports['second']}", "shim": str(world.shim),
                "port": str(ports["first"]),
            },
            (*(login.partition(":")[2] for login in logins.values()), *(each["auth"] for each in auths.values())),
            lambda: sum(_served(log_of(name), login) for name, login in logins.items()),
            (".docker/config.json",),
        )  # fmt: skip
        helper.unlink()


def _served(log: Path, login: str) -> int:
    return sum(json.loads(line)["presented"] == login for line in log.read_text().splitlines())


@contextlib.contextmanager
def _believed(server: str, certificate: Path) -> Iterator[None]:
    """Have docker believe a server's certificate, as root does it (docker(1), "certs.d")."""
    made = Path("/etc/docker").exists()
    folder = Path("/etc/docker/certs.d") / server
    folder.mkdir(parents=True)
    try:
        shutil.copyfile(certificate, folder / "ca.crt")
        yield
    finally:
        shutil.rmtree(folder)
        if not any(folder.parent.iterdir()):
            folder.parent.rmdir()
        if not made:
            folder.parent.parent.rmdir()


_INSPECT = "{docker} manifest inspect {server}/alice/image:1"

CLIENT = Client(
    "docker",
    stand,
    RULES,
    (
        Row("reads a manifest", PROGRAM, _INSPECT),
        Row("reads a manifest", TERMINAL, _INSPECT),
        Row("reads a manifest where the rule says", AGENT, _INSPECT),
        Row("asks another registry", AGENT, "{docker} manifest inspect {second}/alice/image:1", REFUSED,
            tells="docker://{second}; refused: no policy rule lets agent claude"),
        Row("asks a name that no login is for", PROGRAM, "{docker} manifest inspect localhost:{port}/alice/image:1",
            REFUSED),
        Row("logs out, and the login stays", PROGRAM, "cp -a ~/.docker ~/kept && printf {server} | "
            "docker-credential-agent-broker erase; {docker} logout {server}; " + _INSPECT + "; code=$?; "
            "rm -r ~/.docker && mv ~/kept ~/.docker; exit $code", says="agent-broker logout docker --host"),
        Row("logs in: it is told where that is done, and nothing is written", PROGRAM,
            "{docker} login -u alice --password-stdin {server} < ~/password && exit 1; " + _INSPECT,
            says="agent-broker login docker --host", keeps=".docker/config.json"),
        Row("logs in without saying as whom: the same", PROGRAM,
            "{docker} login {server} < /dev/null && exit 1; " + _INSPECT, keeps=".docker/config.json"),
        Row("another process asks", AGENT, "printf {server} | docker-credential-agent-broker get", REFUSED,
            "not started by docker"),
        Row("a copy of docker asks", AGENT, "cp {docker} ~/docker && ~/docker manifest inspect {server}/alice/image:1",
            REFUSED, tells="not started by docker"),
        Row("it is renamed", AGENT, "(exec -a podman {docker} manifest inspect {server}/alice/image:1)", REFUSED,
            tells="not started by docker"),
        Row("DOCKER_CONFIG is the attacker's", AGENT, "mkdir -p own && cp ~/.docker/config.json own && " + _INSPECT,
            REFUSED, tells="sets DOCKER_CONFIG", environment={"DOCKER_CONFIG": "own"}),
        Row("--config is the attacker's", AGENT, "mkdir -p own && cp ~/.docker/config.json own && "
            "{docker} --config own manifest inspect {server}/alice/image:1", REFUSED, tells="not started by docker"),
        Row("DOCKER_HOST is the attacker's", AGENT, _INSPECT, REFUSED, tells="sets DOCKER_HOST",
            environment={"DOCKER_HOST": "tcp://127.0.0.1:1"}),
        Row("the server's certificate is not checked", AGENT,
            "{docker} manifest inspect --insecure {server}/alice/image:1", REFUSED, tells="not started by docker"),
    ),
)  # fmt: skip
