"""Attacks on Gemini: an interpreter that runs a script of a package, and runs itself again with more memory."""

import json
from collections.abc import Callable

from tests.demo.check import eventually
from tests.e2e.attacks.row import GEMINI, USE, Row
from tests.e2e.attacks.trial import PATIENCE_S, Trial

_HIJACK = "T1574"
_CHUNK = "chunk-W766PNZK.js"
"""A file of the bundle that its first script imports."""


_SLOW_S = 20.0
"""For the agent's answer: meanwhile it can be attacked."""
_KEY_IN_KEYCHAIN = {"security": {"auth": {"selectedType": "gemini-api-key"}}}


def _turn(trial: Trial, *node_options: str, **environment: str) -> None:
    more = trial.arena.have_more()
    trial.run(more.node, *node_options, more.script, "-p", "work", "--skip-trust", **_login(trial), **environment)


def _login(trial: Trial, project: str = "") -> dict[str, str]:
    """Gemini's way to send a token as Bearer; the project's name is in its first request."""
    return {
        "GOOGLE_GENAI_USE_GCA": "true",
        "GOOGLE_CLOUD_ACCESS_TOKEN": trial.environment["ATTACK_TOKEN"],
        "GOOGLE_CLOUD_PROJECT": project or trial.nonce,
        "CODE_ASSIST_ENDPOINT": f"http://127.0.0.1:{trial.world.port}",
    }


_ONCE = {"GEMINI_CLI_NO_RELAUNCH": "true"}
"""It does not run itself again: an attack that is in it already needs no second process."""


def _genuine(trial: Trial) -> None:
    _turn(trial)
    trial.ran = True


def _node_options(trial: Trial) -> None:
    _turn(trial, NODE_OPTIONS=f"--require {trial.arena.program('evil.js')}", **_ONCE)


def _required(trial: Trial) -> None:
    _turn(trial, "--require", str(trial.arena.program("evil.js")), **_ONCE)


def _other_script(trial: Trial) -> None:
    trial.run(trial.arena.have_more().node, trial.arena.program("evil.js"))


def _script_as_argument(trial: Trial) -> None:
    more = trial.arena.have_more()
    trial.run(more.node, trial.arena.program("evil.js"), more.script)


def _replaced(how: str, name: str) -> Callable[[Trial], None]:
    def attack(trial: Trial) -> None:
        more = trial.arena.have_more()
        command = (more.node, more.script, "-p", "work", "--skip-trust")
        trial.python("replaced_file", how, more.script.with_name(name), *command, **_ONCE)

    return attack


def _debugger(trial: Trial) -> None:
    trial.arena.answers({trial.nonce: "done"}, delay_s=_SLOW_S)
    more = trial.arena.have_more()
    agent = trial.start(more.node, more.script, "-p", "work", "--skip-trust", **_login(trial, "busy"), **_ONCE)
    eventually(trial.provider_is_asked, "the agent to be at work", within_s=PATIENCE_S, seen=agent.poll)
    trial.answers()
    trial.python("debugger_signal", agent.pid)


def _planted_module(trial: Trial) -> None:
    more = trial.arena.have_more()
    settings = trial.world.home / ".gemini/settings.json"
    trial.run("/bin/mkdir", "-p", settings.parent)
    trial.run("/bin/sh", "-c", f"echo '{json.dumps(_KEY_IN_KEYCHAIN)}' >{settings}")
    command = (more.node, more.script, "-p", "work", "--skip-trust")
    trial.python("planted_module", more.gemini.parent, *command, **_ONCE)
    trial.run("/bin/rm", settings)


ROWS = (
    Row("node-options", "NODE_OPTIONS=--require evil.js gemini", _node_options, mitre=_HIJACK, agent=GEMINI),
    Row("node-require", "node --require evil.js gemini.js", _required, mitre=_HIJACK, agent=GEMINI),
    Row("node-other", "node evil.js", _other_script, mitre="T1059.007", agent=GEMINI),
    Row("node-argument", "node evil.js gemini.js", _script_as_argument, mitre="T1059.007", agent=GEMINI),
    Row("script-replaced", "gemini.js replaced", _replaced("keep", "gemini.js"), mitre="T1554", agent=GEMINI),
    Row("script-swapped", "gemini.js replaced, and back before the request", _replaced("swap", "gemini.js"),
        mitre="T1554", agent=GEMINI),
    Row("bundle-replaced", "a file that gemini.js imports, replaced", _replaced("keep", _CHUNK), mitre="T1554",
        agent=GEMINI),
    Row("bundle-swapped", "the same, and back before the request", _replaced("swap", _CHUNK), mitre="T1554",
        agent=GEMINI),
    Row("planted-module", "an optional module, beside gemini's package", _planted_module, mitre="T1574", agent=GEMINI),
    Row("debugger-signal", "kill -USR1 gemini: Node opens its debugger", _debugger, mitre="T1055", agent=GEMINI),
    Row("gemini", "the agent, started by the attacker", _genuine, USE, alert=False,
        stopped_by="nothing: it is the agent, started by its user", agent=GEMINI),
)  # fmt: skip
