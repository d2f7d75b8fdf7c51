"""The rows of the corpus that need both daemons: git and aws at their servers, an agent that npm updates.

    python -m tests.e2e.noise.enrolled [--report FILE]

A process of its own: it leaves the machine's network. Exit code 0 if each row made as many alerts as is stated; 1 if
one did not; 2 if it can't run here.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.demo.agent import more_agents
from tests.demo.check import StepFailedError, require
from tests.demo.world import World
from tests.e2e.agents.place import Place, place
from tests.e2e.attacks.alert_log import AlertLog
from tests.e2e.clients import python_tools
from tests.e2e.clients.row import Stand
from tests.e2e.clients.world import Clients, clients, server
from tests.e2e.noise.row import Stated
from tests.e2e.noise.rows_enrolled import TOOLS, Use
from tests.e2e.noise.rows_update import CLIENT, LAYOUT, PACKAGE, STEPS, VERSIONS, WAY, Scene

DIFFERS = 1
CANNOT_RUN = 2
Measured = tuple[str, str]
"""A row's name, and how what was told is not what is stated; empty: it is."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the rows; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--report", type=Path, help="also write what was measured into this JSON file")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        sys.stderr.write("this needs root: users are made, BPF programs are loaded\n")
        return CANNOT_RUN
    os.umask(0o022)
    try:
        more_agents()
        python_tools.install()
        measured = [*_tools(), *_update()]
    except StepFailedError as error:
        sys.stderr.write(f"the corpus can't be measured here: {error}\n")
        return CANNOT_RUN
    differ = [each for _, each in measured if each]
    if options.report:
        options.report.write_text(json.dumps({"rows": [name for name, _ in measured], "differ": differ}))
    return DIFFERS if differ else 0


def _heed_signals() -> None:
    """Have everything taken away at a signal. A world that is gone left them ignored, and so would what starts next."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(DIFFERS))
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _tools() -> Iterator[Measured]:
    _heed_signals()
    with clients() as made:
        for tool in TOOLS:
            with tool.stand(made) as stand, _followed(made.world) as log:
                for use in tool.plain:
                    yield _measured(log, use, lambda use=use: _use(made, stand, use))  # type: ignore[misc]
                made.enroll(tool.name, *(stand.filled(each) for each in tool.options))
                made.allow(stand.filled(tool.rules))
                for use in tool.enrolled:
                    yield _measured(log, use, lambda use=use: _use(made, stand, use))  # type: ignore[misc]
                made.unenroll(tool.name)


def _use(made: Clients, stand: Stand, use: Use) -> None:
    served = stand.served()
    said = made.run(use.who, stand.filled(use.command))
    works = said.code == 0 and stand.served() > served
    require(works != use.fails, f"{use.name}: to {'fail' if use.fails else 'work'}", said.text[-2000:])


def _update() -> Iterator[Measured]:
    _heed_signals()
    with place() as made, contextlib.ExitStack() as undo:
        undo.callback(made.forget, CLIENT)
        made.install(CLIENT, LAYOUT)
        made.log_in(CLIENT.ways[WAY]())
        made.enroll(CLIENT)
        made.answers()
        scene = Scene(made, {version: undo.enter_context(_registry(made, version)) for version in VERSIONS})
        for step in STEPS:
            yield _measured(made.alerts, step, lambda step=step: step.act(scene))  # type: ignore[misc]


@contextlib.contextmanager
def _registry(made: Place, version: str) -> Iterator[str]:
    options = (f"--package={more_agents() / 'node_modules' / PACKAGE}", f"--version={version}")
    with server(Clients(made.world), "npm_release", f"npm-{version}", *options) as port:
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _followed(world: World) -> Iterator[AlertLog]:
    log = AlertLog(world.root, world.root / "logs", world.home / ".claude/.credentials.json")
    try:
        yield log
    finally:
        log.close()


def _measured(log: AlertLog, row: Stated, act: Callable[[], None]) -> Measured:
    """Return what was told between the start and the end of an act; the reads that say where the end is are not."""
    log.settle()
    before = {str(each["id"]) for each in log.incidents()}
    act()
    log.settle()
    told = [each for each in log.incidents() if str(each["id"]) not in before and not log.is_own(each)]
    problem = row.difference([str(each["severity"]) for each in told], [str(each["what"]) for each in told])
    sys.stdout.write(f"{'DIFFERS ' if problem else 'ok      '}{row.name}\n{problem}")
    sys.stdout.flush()
    return row.name, problem


if __name__ == "__main__":
    sys.exit(main())
