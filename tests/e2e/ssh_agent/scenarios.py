"""What is played, in this order; each says what happened, and judges nothing."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL
from tests.e2e.ssh_agent.place import Place

_ALLOW_AGENT = """[[rule]]
agent = "claude"
credential = "ssh/UID/id_ed25519"
"""
_ALLOW_AGENT_AT_GOOD = _ALLOW_AGENT + 'to = "ssh://good"\n'
_LIBRARY = """#include <unistd.h>
__attribute__((constructor)) static void start(void) { write(2, "RAN\\n", 4); }
long C_GetFunctionList(void *list) { (void)list; return 5; }
"""
_ATTACK = Path(__file__).parents[1] / "attacks/programs/ssh_ask.py"


def enrolled(made: Place) -> dict[str, object]:
    """What enrolment does to ~/.ssh."""
    said = made.clients.enroll("ssh")
    config = (made.folder / "config").read_text()
    heads = {path.name: path.read_bytes()[:30] for path in made.folder.iterdir()}
    return {
        "said": said,
        "secret in": made.holds_secret(),
        "config": config.replace(str(made.socket), "SOCKET"),
        "public": (made.folder / "id_ed25519.pub").read_text().strip() == made.line,
        "decoys": {name: head.decode() for name, head in sorted(heads.items()) if head.startswith(b"-----")},
    }


def logins(made: Place) -> dict[str, object]:
    """Who logs in, before and after a rule lets the agent; with the other key the agent may not."""
    command = made.ssh(made.good)
    before = made.clients.alert_kinds()
    told: dict[str, object] = {who: _said(made, who, command) for who in (PROGRAM, TERMINAL, AGENT)}
    made.allow(_ALLOW_AGENT)
    told["the agent's tool, allowed"] = _said(made, AGENT, command)
    only_work = ("-o IdentitiesOnly=yes", f"-i {made.folder}/work.pem")
    told["the agent's tool, the other key"] = _said(made, AGENT, made.ssh(made.good, *only_work))
    told["the other key"] = _said(made, PROGRAM, made.ssh(made.good, *only_work))
    told["alerts"] = made.clients.kinds_since(before, 1)
    return told


def git(made: Place) -> dict[str, object]:
    """git over ssh, and a signed commit, by the agent's tool."""
    bare = made.clients.world.root / "repository.git"
    subprocess.run(["git", "init", "-q", "--bare", bare], check=True)
    work = "cd $HOME/project && rm -rf work && git init -q work && cd work"
    author = "git -c user.name=a -c user.email=a@b"
    sign = "-c gpg.format=ssh -c user.signingKey=$HOME/.ssh/id_ed25519.pub commit -q -S --allow-empty -m x"
    push = f"git push -q --force ssh://root@good:{made.good.port}{bare} HEAD:main"
    script = f"{work} && {author} {sign} && {push} && git cat-file -p HEAD | grep -c 'BEGIN SSH SIGNATURE' && echo IN"
    environment = {"SSH_AUTH_SOCK": str(made.socket)}
    made.allow(_ALLOW_AGENT)
    return {who: _said(made, who, script, **environment) for who in (PROGRAM, AGENT)}


def impostors(made: Place) -> dict[str, object]:
    """Who is not the verified ssh, or not alone in it, logs in nowhere."""
    before = made.clients.alert_kinds()
    copied = made.home / "project/ssh"
    shutil.copy("/usr/bin/ssh", copied)
    evil = _library(made, "evil", "-Wl,-z,nodelete")
    gone = _library(made, "gone")
    attack = made.clients.write("project/attack.py", _ATTACK.read_text())
    ask = f"/usr/bin/python3 {attack} {made.socket} {made.folder}/id_ed25519.pub"
    url = f"ssh://root@good:{made.good.port}/nowhere.git"
    login = made.ssh(made.good)
    return {
        "a copy of ssh": _said(
            made, PROGRAM, made.ssh(made.good, f"-o IdentityAgent={made.socket}", program=str(copied))
        ),
        "a copy of ssh, below the agent": _said(made, AGENT, made.ssh(made.good, program=str(copied))),
        "a program of the user": made.run(PROGRAM, ask).text,
        "a tool of the agent": made.run(AGENT, ask).text,
        "GIT_SSH_COMMAND": made.run(AGENT, f"GIT_SSH_COMMAND='{ask} 2>/dev/null #' git ls-remote {url}").text,
        "LD_PRELOAD": _said(made, PROGRAM, login, LD_PRELOAD=str(evil)),
        "KRB5_CONFIG": _said(made, PROGRAM, login, KRB5_CONFIG="/nowhere"),
        "PKCS11Provider": _said(made, PROGRAM, made.ssh(made.good, f"-o PKCS11Provider={evil}")),
        "PKCS11Provider, unloaded": _said(made, PROGRAM, made.ssh(made.good, f"-o PKCS11Provider={gone}")),
        "alerts": made.clients.kinds_since(before, 5),
    }


def _library(made: Place, name: str, *options: str) -> Path:
    """Build a library of the user's that ssh takes for a PKCS#11 provider."""
    target = made.clients.world.root / f"{name}.so"
    source = target.with_suffix(".c")
    source.write_text(_LIBRARY)
    subprocess.run(["cc", "-shared", "-fPIC", *options, "-o", target, source], check=True)
    os.chown(target, made.clients.uid, made.clients.world.user.pw_gid)
    return target


def destinations(made: Place) -> dict[str, object]:
    """A key that is limited to one host, by its key as known_hosts has it."""
    made.clients.broker("ssh", "limit", "id_ed25519", *made.whose, "--host", f"good={made.good.fingerprint}", "--yes")
    only = ("-o IdentitiesOnly=yes", f"-i {made.folder}/id_ed25519")
    told: dict[str, object] = {
        "its host": _said(made, PROGRAM, made.ssh(made.good, *only)),
        "another host": _said(made, PROGRAM, made.ssh(made.bad, *only)),
    }
    made.allow(_ALLOW_AGENT_AT_GOOD)
    told["a rule for this host"] = _said(made, AGENT, made.ssh(made.good, *only))
    made.clients.broker("ssh", "limit", "id_ed25519", *made.whose, "--host", "good", "--yes")
    told["by known_hosts"] = _said(made, PROGRAM, made.ssh(made.good, *only))
    made.clients.broker("ssh", "limit", "id_ed25519", *made.whose, "--yes")
    told["again any host"] = _said(made, PROGRAM, made.ssh(made.bad, *only))
    told["a rule for a host that is not proven to be it"] = _said(made, AGENT, made.ssh(made.good, *only))
    return told


def forwarding(made: Place) -> dict[str, object]:
    """ssh -A to one host, and from there to the other."""
    hop = f"ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -p {made.bad.port} root@127.0.0.1 echo IN"
    return {"forwarded": _said(made, PROGRAM, made.ssh(made.good, "-A", command=hop))}


def decoy(made: Place) -> dict[str, object]:
    """Somebody reads the decoy; ssh itself does at each login, and that is no news."""
    before = made.clients.alert_kinds()
    made.run(PROGRAM, made.ssh(made.good))
    own = made.clients.kinds_since(before)
    made.run(PROGRAM, f"cat {made.folder}/id_ed25519")
    told = made.clients.kinds_since(before, 1)
    made.clients.broker("scan", *made.whose)
    return {"ssh itself": own, "cat": told, "cat and scan": made.clients.kinds_since(before)}


def broker_down(made: Place) -> dict[str, object]:
    """No broker: a plain no, and the decoy is not used either; then all is as before."""
    with made.clients.broker_down():
        down = _said(made, PROGRAM, made.ssh(made.good))
    return {"down": down, "up again": _said(made, PROGRAM, made.ssh(made.good))}


def journal(made: Place) -> dict[str, object]:
    """What the audit journal keeps of a login, and that it holds no secret."""
    text = made.clients.journal()
    return {
        "login": f"login as 'root' at {made.good.fingerprint}" in text,
        "file": "signature of a file, namespace 'git'" in text,
        "refused": "agent forwarding" in text,
        "secret": any(secret.decode() in text for secret in made.secrets),
    }


def unenrolled(made: Place) -> dict[str, object]:
    """Everything is as it was, and ssh works without the broker."""
    made.clients.unenroll("ssh")
    known = {name: facts for name, facts in made.files().items() if name != "known_hosts"}
    return {
        "differs": sorted(name for name, facts in made.before.items() if known.get(name, facts) != facts),
        "more": sorted(set(known) - set(made.before)),
        "login": _said(made, PROGRAM, made.ssh(made.good)),
    }


def _said(made: Place, who: str, command: str, **environment: str) -> str:
    said = made.run(who, command, **environment)
    ran = "foreign code ran, " if "RAN" in said.text.splitlines() else ""
    if said.code == 0 and "IN" in said.text.splitlines():
        return f"{ran}IN"
    return f"{ran}{said.code}: {said.text.strip()[-400:]}"


SCENARIOS: dict[str, Callable[[Place], dict[str, object]]] = {
    each.__name__: each
    for each in (
        enrolled, logins, git, impostors, destinations, forwarding, decoy, broker_down, journal, unenrolled,
    )
}  # fmt: skip
