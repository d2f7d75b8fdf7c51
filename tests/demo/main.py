"""``make demo``: the main job, on this machine, step by step, with evidence.

    python -m tests.demo.main [--agent auto|claude-code|sample] [--svg FILE] [--report FILE]

Exit code 0 only if every step held; 1 if one did not, after saying which, and what was there instead; 2 if it can't run
here. Leaves nothing behind on the machine but what npm downloaded (tests.demo.agent).
"""

import argparse
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.demo.agent import REAL, SAMPLE, Agent
from tests.demo.check import StepFailedError
from tests.demo.show import Show
from tests.demo.steps import STEPS
from tests.demo.world import World, private_world

FAILED = 1
CANNOT_RUN = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return its exit code."""
    options = _options(arguments)
    if os.geteuid() != 0:
        sys.stderr.write("the demo needs root: it makes users and loads BPF programs; try: sudo make demo\n")
        return CANNOT_RUN
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(FAILED))
    os.umask(0o022)
    show = Show(options.svg)
    began_s = time.monotonic()
    try:
        agent = _run(show, options.agent)
    except StepFailedError as error:
        show.failed(error.expected, error.seen, ())
        return FAILED
    except KeyboardInterrupt:
        show.note("interrupted; all is taken away", "bold red")
        return FAILED
    took_s = time.monotonic() - began_s
    show.end(
        f"All seven steps held, with {agent.name}, in {took_s:.0f} s.",
        "Its users, processes and files are gone from this machine.",
    )
    show.save("make demo")
    if options.report:
        options.report.write_text(json.dumps({"agent": agent.kind, "steps": len(STEPS), "seconds": round(took_s, 1)}))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description="The main job, step by step.")
    parser.add_argument("--agent", choices=["auto", REAL, SAMPLE], default="auto", help="which agent to run")
    parser.add_argument("--svg", type=Path, help="also draw what is shown into this file")
    parser.add_argument("--report", type=Path, help="also say in this JSON file which agent was used")
    return parser.parse_args(arguments)


def _run(show: Show, wanted: str) -> Agent:
    show.wait()
    with private_world(wanted) as world:
        show.title("agent-broker, the main job", f"with {world.agent.name}")
        _say_what_is_unusual(show, world)
        try:
            for number, (title, step) in enumerate(STEPS, 1):
                show.step(number, title)
                show.held(step(world, show))
        except StepFailedError as error:
            show.failed(error.expected, error.seen, _last_words(world))
            raise SystemExit(FAILED) from error
        except Exception as error:
            show.failed("the step to run through", traceback.format_exc(), _last_words(world))
            raise SystemExit(FAILED) from error
        return world.agent


def _last_words(world: World) -> list[tuple[str, list[str]]]:
    return [(each.name, each.tail()) for each in world.programs]


def _say_what_is_unusual(show: Show, world: World) -> None:
    if world.agent.kind == SAMPLE:
        show.note(f"NOT the real Claude Code: {world.agent.why}. The sample agent runs instead.", "bold yellow")
    if world.mounted:
        show.note(f"mounted: {', '.join(world.mounted)}")


if __name__ == "__main__":
    sys.exit(main())
