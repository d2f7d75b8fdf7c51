"""Every agent whose recipe is data: enrolled, used, misused, unenrolled, with the real program and real daemons.

    python -m tests.e2e.agents_generic.main [--only NAME] [--report FILE] [--write]

Exit code 0 if all held, 1 if something did not, 2 if it can't run here.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.demo.check import StepFailedError, eventually, require
from tests.demo.memory import grep
from tests.demo.processes import killed
from tests.demo.snapshot import Snapshot, take_snapshot
from tests.e2e.agents.client import Client, Login
from tests.e2e.agents.place import PATIENCE_S, Place, place, require_well
from tests.e2e.agents_generic import installed
from tests.e2e.agents_generic.clients import CLIENTS
from tests.e2e.agents_generic.deeds import DEEDS
from tests.e2e.measured import keep

DIFFERS = 1
CANNOT_RUN = 2
DOCUMENT = Path(__file__).parents[3] / "docs/clients-by-recipe.md"
_DECOY = ".old-token"
Told = dict[tuple[str, str], str]
"""What came of each deed, by agent and deed."""
_HEAD = """# The agents that are enrolled by a recipe, as they were proven

The programs as npm and PyPI have them, run against a provider on loopback, with both daemons and the commands that
people type. `make clients` does it and writes this page; nothing in it is typed by hand. Measured in the tier
**{tier}**.

**works** says that all of this held: one turn without the broker; enrolled, one turn, in which each request to the
model carried exactly the real key, in the header that is named, no file of the home or of the daemons held it, and no
alert was raised; the phantom in another program, and the agent with its user's own code in it, got nothing;
unenrolled, each file of the login was as before (content, owner, mode, time of change), and the agent took one turn.

| agent | version | layout | way of authentication | enrolled | the provider saw |
|---|---|---|---|---|---|
"""
_DEEDS_HEAD = """
## What happens to an enrolled agent

| agent | what | result |
|---|---|---|
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prove them; return the exit code."""
    parser = argparse.ArgumentParser(description="agents by recipe")
    parser.add_argument("--only", metavar="NAME", help="one agent")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--write", action="store_true", help="write docs/clients-by-recipe.md")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        sys.stderr.write("this needs root: users are made, BPF programs are loaded\n")
        return CANNOT_RUN
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(DIFFERS))
    os.umask(0o022)
    problems: dict[str, str] = {}
    told: Told = {}
    tier = ""
    try:
        installed.have_all()  # before the place is made: it has no network
        with place() as made:
            tier = made.tier
            for client in CLIENTS:
                if options.only in {None, client.name}:
                    problems[client.name] = _proven(made, client, told)
    except StepFailedError as error:
        sys.stderr.write(f"the agents can't be proven here: {error}\n")
        return CANNOT_RUN
    text = document(tier, problems, told)
    keep(options, DOCUMENT, text, {"problems": problems})
    return DIFFERS if any(problems.values()) else 0


def document(tier: str, problems: Mapping[str, str], told: Told) -> str:
    """Return docs/clients-by-recipe.md."""
    lines = []
    for client in CLIENTS:
        way, login = next(iter(client.ways.items()))
        result = "DIFFERS" if problems.get(client.name, "not run") else "works"
        saw = ", ".join(f"`{each}`" for each in login().sent)
        cells = (client.title, client.version, next(iter(client.layouts)), way, result, saw)
        lines.append("| " + " | ".join(cells) + " |\n")
    of_deeds = []
    for client in CLIENTS:
        for deed in DEEDS[client.name]:
            result = told.get((client.name, deed.what), "not run")
            of_deeds.append(f"| {client.title} | {deed.what} | {result} |\n")
    return _HEAD.format(tier=tier) + "".join(lines) + _DEEDS_HEAD + "".join(of_deeds)


def _proven(made: Place, client: Client, told: Told) -> str:
    """Return what did not hold, empty if all did; write down what came of each deed."""
    began_s = time.monotonic()
    problem = ""
    try:
        made.install(client, next(iter(client.layouts)))
        _prove(made, client, next(iter(client.ways.values()))(), told)
    except StepFailedError as error:
        problem = str(error)
    finally:
        made.forget(client)
    sys.stdout.write(f"{client.title} {client.version}: {problem or 'holds'} ({time.monotonic() - began_s:.0f} s)\n")
    return problem


def _prove(made: Place, client: Client, login: Login, told: Told) -> None:
    made.log_in(login)
    made.answers("without the broker")
    require_well(made.turn(client, directly=True), client, login.sent)
    before = _snapshot(made, login)
    made.enroll(client)
    with _decoy(made):
        _prove_enrolled(made, client, login, told)
    made.unenroll(client)
    for path, entry in before.items():
        different = entry.differs_in(_snapshot(made, login).get(path))
        require(not different, f"~/{path} as it was", different)
    made.answers("without the broker again")
    require_well(made.turn(client, directly=True), client, login.sent)


def _prove_enrolled(made: Place, client: Client, login: Login, told: Told) -> None:
    _require_clean(made, login)
    alerts = len(made.alerts.incidents())
    made.answers("well done, brokered")
    turn = made.turn(client)
    require_well(turn, client, login.sent)
    require("well done, brokered" in turn.said, "the model's answer to be shown", turn.said[-500:])
    require(not made.kinds_since(alerts), "no alert while the agent does its work", made.kinds_since(alerts))
    _require_clean(made, login)
    _require_refused(made, client)
    _do(made, client, told)


def _do(made: Place, client: Client, told: Told) -> None:
    """Do each deed, and write down what came of it."""
    for deed in DEEDS[client.name]:
        made.answers()
        result = told[client.name, deed.what] = deed.act(made, client)
        made.end_processes()
        require(result == deed.expected, f"{deed.what}: {deed.expected}", result)


@contextmanager
def _decoy(made: Place) -> Iterator[None]:
    """Have what tells, by its own alert, that all earlier ones have come: not every agent has a watched file."""
    path = made.world.home / _DECOY
    made.broker("decoy", "plant", _DECOY, "--kind", "github-token", "--user", made.world.user.pw_name, "--yes")
    try:
        made.watch_by(path)
        yield
    except StepFailedError:
        with suppress(StepFailedError):  # it is the first one that is told
            made.broker("decoy", "remove", str(path), "--yes")
        raise
    made.broker("decoy", "remove", str(path), "--yes")


def _require_refused(made: Place, client: Client) -> None:
    """The phantom in another program's hands, and the agent with foreign code in it, get nothing."""
    phantom = client.phantom(made.world.home)
    require(phantom.startswith("agent-broker-phantom-"), "a phantom in the agent's files", phantom[:20])
    before = len(made.requests())
    path, header, value = client.replay(phantom)
    told = made.world.home / "project/told.json"
    facts = {"port": made.world.port, "path": path, "header": header, "value": value, "nonce": "stolen"}
    told.write_text(json.dumps(facts))
    code = made.run("/usr/bin/python3", "-I", made.tool("replay.py"), str(told)).strip()
    require(code in {"401", "403"}, "another program to be refused", code)
    alerts = len(made.alerts.incidents())
    foreign = client.tainting(Path(made.tool("foreign.cjs")))
    tainted = made.start(client, client.command(made.program, "go on"), **foreign)
    try:
        eventually(
            lambda: any(each["kind"] == "agent-tainted" for each in made.alerts.incidents()[alerts:]),
            "the agent with foreign code in it to be refused, and told of",
            within_s=PATIENCE_S,
        )
    finally:
        killed(tainted)
    asked = [each["target"] for each in made.requests()[before:] if client.asks_model(each["target"])]
    require(not asked, "no request of theirs to reach the provider", asked)


def _require_clean(made: Place, login: Login) -> None:
    root = made.world.root
    left = grep(login.secrets, made.world.home, root / "var", root / "etc", root / "run", root / "logs")
    require(not left, "no file of the home or of the daemons to hold a secret", left)


def _snapshot(made: Place, login: Login) -> Snapshot:
    """Return the files of the login: what the agent writes beside them is its own."""
    return {
        path: entry for path, entry in take_snapshot(made.world.home, but=made.installed).items() if path in login.files
    }


if __name__ == "__main__":
    sys.exit(main())
