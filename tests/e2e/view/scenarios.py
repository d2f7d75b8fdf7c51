"""What is played, in this order; each says what happened, and judges nothing."""

import os
from collections.abc import Callable
from pathlib import Path

from tests.demo.check import eventually
from tests.e2e.clients.world import AGENT, PROGRAM, TERMINAL
from tests.e2e.view.codex import refreshed
from tests.e2e.view.gemini import gemini_refreshed
from tests.e2e.view.place import NPM, Place
from tests.fakes.npm_registry import USER

_ALLOW_AGENT = """[[rule]]
agent = "claude"
credential = "file.npmrc/UID/content"
modes = ["view"]
"""
_WHOAMI = f"{NPM} whoami"


def enrolled(made: Place) -> dict[str, object]:
    """What enrolment does to the file."""
    before = made.clients.alert_kinds()
    said = made.enroll(NPM)
    told = {
        "said": said,
        "is link": made.path.is_symlink(),
        "secret in": made.holds_secret(),
        "root": _open_error(made.path),
        "cat": made.shown(PROGRAM, "cat ~/.npmrc"),
        "size and owner": made.run(PROGRAM, "stat -Lc '%s %u %a' ~/.npmrc").text.strip(),
        "listed": made.run(PROGRAM, "ls -A $(dirname $(readlink ~/.npmrc))").text.split(),
    }
    return {**told, "alerts": made.clients.kinds_since(before, 1)}


def readers(made: Place) -> dict[str, object]:
    """Who is npm for the registry, before and after a rule lets the agent."""
    before = made.clients.alert_kinds()
    told: dict[str, object] = {who: _whoami(made, who) for who in (PROGRAM, TERMINAL, AGENT)}
    made.clients.allow(_ALLOW_AGENT)
    told["the agent's npm, allowed"] = _whoami(made, AGENT)
    told["the agent's cat, npm allowed"] = made.shown(AGENT, "cat ~/.npmrc")
    told["alerts"] = made.clients.kinds_since(before, 1)
    made.clients.allow("")
    return told


def impostors(made: Place) -> dict[str, object]:
    """Who is not npm, or not alone in it, gets the decoy."""
    before = made.clients.alert_kinds()
    evil = made.clients.write("project/evil.js", "require('fs').readFileSync(process.env.HOME+'/.npmrc')\n")
    print_it = "console.log(String(require('fs').readFileSync(process.env.HOME+'/.npmrc')))"
    made.clients.write("project/package.json", '{"scripts":{"steal":"cat ~/.npmrc"}}\n')
    copied = made.home / "project/npm-cli.js"
    copied.write_text(f"#!/usr/bin/env node\n{print_it}\n")
    copied.chmod(0o755)
    told = {
        "node": made.shown(PROGRAM, f'node -e "{print_it}"'),
        "a script called npm-cli.js": made.shown(PROGRAM, f"node {copied}"),
        "a script of npm run": made.shown(PROGRAM, f"cd ~/project && {NPM} run --silent steal"),
        "NODE_OPTIONS": _whoami(made, PROGRAM, NODE_OPTIONS=f"--require={evil}"),
        "LD_PRELOAD": _whoami(made, PROGRAM, LD_PRELOAD="/nowhere.so"),
        "another pid namespace": made.shown(PROGRAM, "unshare -Urpf --mount-proc cat ~/.npmrc"),
        "written": made.run(PROGRAM, "echo x >> ~/.npmrc").text.strip(),
        "temporary beside": made.run(PROGRAM, "touch $(dirname $(readlink ~/.npmrc))/x").text.strip(),
    }
    return {**told, "alerts": made.clients.kinds_since(before, 6)}


def written(made: Place) -> dict[str, object]:
    """What npm writes goes through the link to the vault; without a broker nothing is read, and then all is back."""
    said = made.run(PROGRAM, f"{NPM} config set --location=user fetch-retries=7").text
    with made.clients.broker_down():
        down = made.run(PROGRAM, "cat ~/.npmrc").text
    eventually(lambda: made.shown(PROGRAM, "cat ~/.npmrc") == "decoy", "the view to be back", within_s=60)
    return {
        "said": said,
        "down": made.registry.token in down or "my settings" in down,
        "whoami after": _whoami(made, PROGRAM),
        "kept": made.run(PROGRAM, f"{NPM} config get --location=user fetch-retries").text.strip(),
        "still a link": made.path.is_symlink(),
    }


def unenrolled(made: Place) -> dict[str, object]:
    """What was written is kept; a file that nobody wrote is back byte for byte."""
    made.unenroll()
    first = made.path.read_text()
    made.path.unlink()
    made.clients.write(".npmrc", made.text)
    os.utime(made.path, ns=(1_700_000_000_123_456_789, 1_700_000_001_123_456_789))
    made.enroll(NPM)
    _whoami(made, PROGRAM)
    made.unenroll()
    return {
        "written": "fetch-retries=7" in first and made.registry.token in first,
        "as it was": made.facts() == made.before,
        "whoami": _whoami(made, PROGRAM),
    }


def _whoami(made: Place, who: str, **environment: str) -> str:
    """Return what the registry saw of npm: the token (IN), another one, or nothing, and then what npm said."""
    made.registry.seen.clear()
    said = made.run(who, _WHOAMI, **environment).text
    if USER in said:
        return "IN"
    shown = [line for line in said.splitlines() if "EACCES" in line or "error" in line]
    return "decoy" if made.registry.seen else (shown or [said])[0].strip()


def _open_error(path: Path) -> str:
    try:
        path.read_bytes()
    except OSError as error:
        return error.strerror or ""
    return "read"


SCENARIOS: dict[str, Callable[[Place], dict[str, object]]] = {
    each.__name__: each for each in (enrolled, readers, impostors, written, unenrolled, refreshed, gemini_refreshed)
}
