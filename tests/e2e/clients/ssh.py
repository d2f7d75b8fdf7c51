"""OpenSSH's client at two sshds of its own on loopback: one that the key is limited to, and the attacker's."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.clients.row import REFUSED, Client, Row, Stand
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL, Clients
from tests.fakes.sshd import Sshd, running_sshd

RULES = """[[rule]]
agent = "claude"
credential = "ssh/UID/id_ed25519"
to = "ssh://good"
"""
_CONFIG = "# my hosts\nHost good bad\n  HostName 127.0.0.1\n  User root\n  BatchMode yes\n"
_FILES = (".ssh/id_ed25519", ".ssh/work", ".ssh/config")
_ASK = Path(__file__).parents[1] / "attacks/programs/ssh_ask.py"


@contextlib.contextmanager
def stand(clients: Clients) -> Iterator[Stand]:
    """Two keys in ``~/.ssh``; both hosts let both in."""
    with hosts(clients) as (good, bad):
        version = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr
        yield ssh_stand(clients, "ssh", version.partition("_")[2].split()[0], good, bad)


@contextlib.contextmanager
def hosts(clients: Clients) -> Iterator[tuple[Sshd, Sshd]]:
    """Start the hosts, and make the user's folder of ssh."""
    with contextlib.ExitStack() as servers:
        place = Path(servers.enter_context(tempfile.TemporaryDirectory(dir=clients.world.root)))
        place.chmod(0o755)
        good, bad = (servers.enter_context(running_sshd(place / name)) for name in ("good", "bad"))
        folder = clients.home / ".ssh"
        folder.mkdir(mode=0o700)
        keys = [_key(folder / name) for name in ("id_ed25519", "work")]
        known = "".join(
            f"{each.known_hosts_line}{name} {each.host_key.with_suffix('.pub').read_text()}"
            for name, each in (("good", good), ("bad", bad))
        )
        (folder / "config").write_text(_CONFIG)
        (folder / "known_hosts").write_text(known)
        for path in (folder, *folder.iterdir()):
            os.chown(path, clients.uid, clients.world.user.pw_gid)
        for each in (good, bad):
            each.authorize(*keys)
        yield good, bad
        shutil.rmtree(folder)


def ssh_stand(clients: Clients, client: str, version: str, good: Sshd, bad: Sshd, **names: str) -> Stand:
    """Return the stand of a client that logs in at these hosts."""
    folder = clients.home / ".ssh"
    login = "ssh -o IdentitiesOnly=yes -i ~/.ssh/"
    given = {
        "use": f"{login}id_ed25519 -p {good.port} good true", "login": login, "port": str(good.port),
        "bad": str(bad.port), "fingerprint": good.fingerprint, "known": str(folder / "known_hosts"),
        "socket": str(clients.world.root / "run/agent-broker/ssh.sock"),
        "ask": str(clients.write("project/ask.py", _ASK.read_text(), 0o644)), **names,
    }  # fmt: skip
    secrets = tuple((folder / name).read_text().splitlines()[-3] for name in ("id_ed25519", "work"))
    return Stand(client, version, given, secrets, lambda: sum(map(_logins, (good, bad))), _FILES)


def enroll(clients: Clients, stand: Stand) -> None:
    """Enrol ssh; the key is for one host."""
    clients.enroll("ssh")
    limit(clients, "--host", stand.filled("good={fingerprint}"))


def limit(clients: Clients, *options: str) -> None:
    """Say what the first key is for."""
    whose = ("--user", clients.world.user.pw_name, "--home", str(clients.home))
    clients.broker("ssh", "limit", "id_ed25519", *whose, *options, "--yes")


def _key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text().strip()


def _logins(host: Sshd) -> int:
    return host.log().count("Accepted publickey for root")


_NO = "agent refused operation"

CLIENT = Client(
    "ssh",
    stand,
    RULES,
    (
        Row("logs in", PROGRAM, "{use}"),
        Row("logs in", TERMINAL, "{use}"),
        Row("logs in where the rule says", AGENT, "{use}"),
        Row("logs in elsewhere with a key of one host", AGENT, "{login}id_ed25519 -p {bad} bad true", REFUSED, _NO),
        Row("logs in elsewhere with a key of one host", PROGRAM, "{login}id_ed25519 -p {bad} bad true", REFUSED, _NO),
        Row("the other host calls itself the right one", AGENT,
            "{login}id_ed25519 -o HostKeyAlias=good -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
            "-p {bad} good true", REFUSED, _NO),
        Row("a key that no rule is about", AGENT, "{login}work -p {port} good true", REFUSED, _NO),
        Row("the same key", PROGRAM, "{login}work -p {port} good true"),
        Row("another process asks", AGENT, "/usr/bin/python3 {ask} {socket} ~/.ssh/id_ed25519.pub", REFUSED,
            "listed False signed False"),
        Row("a copy of ssh asks", AGENT,
            "cp /usr/bin/ssh own-ssh && ./own-ssh -i ~/.ssh/id_ed25519 -p {port} good true",
            REFUSED, "Permission denied"),
        Row("Kerberos' settings are the attacker's", AGENT, "{use}", REFUSED, "Permission denied",
            {"KRB5_CONFIG": "/nowhere"}),
        Row("another agent is named", AGENT, "SSH_AUTH_SOCK=/nowhere {use}"),
    ),
    down_says="Permission denied",
    enroll=enroll,
    used="timeout 20 {use}",
)  # fmt: skip
"""It waits for its agent as long as that takes: hence ``timeout``."""
