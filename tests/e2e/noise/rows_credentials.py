"""Programs that open credential files: their own, which is normal use, and those of others."""

from tests.e2e.noise.row import stated
from tests.e2e.noise.servers import docker_daemon, ssh_server
from tests.e2e.noise.world import World
from tests.fakes.registry import Registry


def _ssh(made: World) -> None:
    """A key is loaded into an agent, and its public half is asked for."""
    key = made.home / ".ssh/id_ed25519"
    made.as_user("ssh-agent", "sh", "-c", f"ssh-add {key} && ssh-add -l")
    made.as_user("ssh-keygen", "-y", "-f", key)


def _ssh_login(made: World) -> None:
    """A key in its file opens a real server; then a key that ssh-agent holds does, without the file."""
    with ssh_server(made) as port:
        command = f"ssh -p {port} -o BatchMode=yes -o StrictHostKeyChecking=accept-new"
        there = f"127.0.0.1 cat {made.project}/README.md"
        assert "A project" in made.as_user("sh", "-c", f"{command} {there}")
        key = made.home / ".ssh/id_ed25519"
        held = f"ssh-add -q {key} && {command} -o IdentityFile=none {there} && ssh-add -q -D"
        assert "A project" in made.as_user("ssh-agent", "sh", "-c", held)


def _git(made: World) -> None:
    """What git does when a remote asks for a password."""
    asked = "protocol=https\nhost=git.example.org\n\n"
    assert "made-up" in made.as_user("git", "credential", "fill", stdin=asked)


def _aws(made: World) -> None:
    assert "shared-credentials-file" in made.as_user("aws", "configure", "list")


def _docker(made: World) -> None:
    made.as_user("docker", "context", "ls")


def _docker_pull(made: World) -> None:
    """A real daemon, and a registry that asks for the login that the client keeps."""
    with docker_daemon(made) as place, Registry("ann", "made-up") as registry:
        docker = ("docker", "--host", f"unix://{place}")
        made.as_user(*docker, "login", "--username", "ann", "--password-stdin", registry.address, stdin="made-up")
        before = len(registry.logins)
        made.as_user(*docker, "pull", "--quiet", f"{registry.address}/tool:1")
        assert len(registry.logins) > before
        made.as_user(*docker, "logout", registry.address)


def _kubectl(made: World) -> None:
    assert "example" in made.as_user("kubectl", "config", "get-contexts")


def _npm(made: World) -> None:
    assert "registry.example.org" in made.as_user("npm", "config", "list", cwd=made.project)


def _cat(made: World) -> None:
    made.as_user("cat", made.home / ".aws/credentials")


def _copy_of_ssh(made: World) -> None:
    """A name is no identity: a copy of a program that may is not that program."""
    copy = made.home / "ssh-keygen"
    made.as_user("cp", "/usr/bin/ssh-keygen", copy)
    made.as_user(copy, "-y", "-f", made.home / ".ssh/id_ed25519")
    copy.unlink()


def _scanner(made: World) -> None:
    """One program that takes all there is is one story."""
    made.as_user(
        "sh", "-c", "exec cat ~/.aws/credentials ~/.docker/config.json ~/.git-credentials ~/.kube/config ~/.netrc"
    )  # fmt: skip


ROWS = (
    stated("ssh-agent, ssh-add, ssh-keygen", _ssh),
    stated("ssh to a server, by key and by agent", _ssh_login),
    stated("git with its credential store", _git),
    stated("aws configure list", _aws),
    stated("docker context ls", _docker),
    stated("docker login, pull, logout", _docker_pull),
    stated("kubectl config get-contexts", _kubectl),
    stated("npm with its own .npmrc", _npm),
    stated("cat ~/.aws/credentials", _cat, 1, "warning"),
    stated("a copy of ssh-keygen reads the key", _copy_of_ssh, 1, "warning"),
    stated("cat of five credential files", _scanner, 1, "warning"),
)
