"""docker shows what it read to a registry only: a real one's dialogue, on loopback."""

import base64
import json
import os
import ssl
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests.fakes.plant_world import GID, UID, PlantWorld


class Registry(ThreadingHTTPServer):
    """Asks for a Basic login, over TLS, and keeps what was sent."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), _Handler)
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=registry",
             "-keyout", key, "-out", certificate],
            capture_output=True, check=True,
        )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.logins = []
        self._thread = Thread(target=self.serve_forever)
        self._thread.start()

    @property
    def host(self):
        return f"127.0.0.1:{self.server_port}"

    def end(self):
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        login = self.headers.get("Authorization", "")
        if login:
            self.server.logins.append(login)
        self.send_response(404 if login else 401)
        self.send_header("WWW-Authenticate", 'Basic realm="registry"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def world():
    world = PlantWorld()
    yield world
    world.close()


@pytest.fixture
def registry(tmp_path):
    registry = Registry(tmp_path)
    yield registry
    registry.end()


def inspect(world, registry, **environment):
    subprocess.run(
        ["docker", "manifest", "inspect", "--insecure", f"{registry.host}/app:1"],
        capture_output=True,
        user=UID,
        group=GID,
        extra_groups=(),
        cwd=world.home,
        env={"PATH": os.environ["PATH"], "HOME": str(world.home), **environment},
        check=False,
    )
    return {login.removeprefix("Basic ") for login in registry.logins}


MINE = '{\n\t"auths": {\n\t\t"r.example": {"auth": "bWU6bWluZQ=="}\n\t},\n\t"detachKeys": "ctrl-e"\n}'


@pytest.mark.parametrize("mine", [None, MINE])
def test_docker_sends_the_login_to_its_registry(world, registry, mine):
    path = world.home / ".docker/config.json"
    if mine:
        world.file(".docker/config.json", mine)
    world.plant("docker-auth")
    value = json.loads(path.read_text())
    (host,) = set(value["auths"]) - {"r.example"}
    assert ("r.example" in value["auths"], "detachKeys" in value) == (bool(mine), bool(mine))
    path.write_text(path.read_text().replace(host, registry.host))  # nothing resolves the decoy's own name
    (login,) = inspect(world, registry)
    assert world.knows(login)
    assert world.knows(base64.b64decode(login).decode().partition(":")[2])


def test_a_helper_of_the_same_host_wins_over_a_decoy(world, registry):
    world.plant("docker-auth")
    path = world.home / ".docker/config.json"
    value = json.loads(path.read_text())
    (host,) = value["auths"]
    value = {"auths": {registry.host: value["auths"][host]}, "credHelpers": {registry.host: "shim"}}
    path.write_text(json.dumps(value))
    helper = world.root / "docker-credential-shim"
    helper.write_text('#!/bin/sh\necho \'{"ServerURL": "x", "Username": "u", "Secret": "from-shim"}\'\n')
    helper.chmod(0o755)
    found = inspect(world, registry, PATH=f"{world.root}:{os.environ['PATH']}")
    assert found == {base64.b64encode(b"u:from-shim").decode()}
