"""``make bench-peers``: other ways to see an open, beside our monitor, in one run with the same watch.

    python -m tests.bench.peers.main [--json FILE]

Run as root from the repository's folder. Ratios are of medians: each watcher takes its turn, with nothing watching
before it, three times over. What can't be run here is said. Exit code 1 only if our own monitor could not be measured.
"""

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.bench import decoy_alert, drivers
from tests.bench.figures import CannotMeasureError, p50, p99
from tests.bench.peers.seen import OPENINGS, WAYS, files_of, seen_by, seen_by_monitor
from tests.bench.peers.watchers import WATCHERS, Watcher
from tests.bench.report import conditions
from tests.bench.stage import OWNER, Stage, stage
from tests.e2e.opens.mechanisms import compile_programs

_TURNS = 3
_EXECS = 300
_OPEN_BATCHES, _OPENS = 200, 500
_WARM_UP, _ALERTS = 8, 200
_ALERT_S = 5
OURS = "agent-broker"
_SEE = "pid, exe, hash, lineage"


class Result(Struct):
    """What was measured of one of them."""

    name: str
    names: str
    opens: list[int]
    execs: list[int]
    alerts_ns: list[float]
    seen: frozenset[str] = frozenset()
    """Names of tests.e2e.opens.mechanisms."""
    named: frozenset[str] = frozenset()
    problem: str = ""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="other ways to see an open, beside our monitor")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that everything is cleaned up
    said = conditions()
    try:
        with stage() as made:
            off, results = _measure(made)
    except CannotMeasureError as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    _show(off, results, said)
    if arguments.json:
        arguments.json.write_text(json.dumps({"conditions": said, **{each.name: _row(off, each) for each in results}}))
    return 0


def _measure(made: Stage) -> tuple[Result, list[Result]]:
    off, ours = _result("nothing", ""), _result(OURS, _SEE)
    made.have(monitor=True, broker=True)
    figures = {each.key: each.value for each in decoy_alert.run(made)}
    ours.alerts_ns = [figures["alert-p50"] * 1e6, figures["alert-p99"] * 1e6]
    made.have(monitor=False, broker=False)
    peers = [(watcher, _result(watcher.name, watcher.names)) for watcher in WATCHERS]
    for turn in range(_TURNS):
        _cost(made, off)
        made.have(monitor=True, broker=False)
        _cost(made, ours)
        made.have(monitor=False, broker=False)
        for watcher, result in peers:
            _cost(made, off)
            _peer_turn(made, watcher, result, is_last=turn == _TURNS - 1)
    programs = _programs(made)
    ours.seen, ours.named = seen_by_monitor(programs)
    return off, [ours, *(result for _, result in peers)]


def _peer_turn(made: Stage, watcher: type[Watcher], result: Result, *, is_last: bool) -> None:
    """One turn of a peer; in the last one also how soon, and what, it tells."""
    if result.problem:
        return
    _say(f"{watcher.name} ...")
    try:
        with _files(made) as (folder, files), watcher(folder).watching([*files.values(), *made.decoys]) as running:
            _cost(made, result)
            running.drain()
            if is_last:
                result.alerts_ns = _alerts(made, running)
                result.seen, result.named = seen_by(running, _programs(made), files)
    except CannotMeasureError as error:
        result.problem = str(error)


@contextmanager
def _files(made: Stage) -> Iterator[tuple[Path, dict[str, Path]]]:
    with tempfile.TemporaryDirectory(dir=made.folder) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder, files_of(folder)


def _programs(made: Stage) -> Path:
    folder = made.folder / "ways"
    if not folder.exists():
        folder.mkdir()
        compile_programs(folder)
    return folder


def _cost(made: Stage, result: Result) -> None:
    ordinary = made.folder / "ordinary"
    ordinary.write_text("{}")
    opens = drivers.run([made.driver("opens"), str(_OPEN_BATCHES), str(_OPENS), ordinary])
    execs = drivers.run([made.driver("spawn"), str(_EXECS), "/bin/true"])
    result.opens += [line[0] for line in drivers.numbers(opens)]
    result.execs += [line[0] for line in drivers.numbers(execs)]


def _alerts(made: Stage, watcher: Watcher) -> list[float]:
    """Return nanoseconds from opens of a watched file until each was told."""
    samples: list[float] = []
    for number in range(_WARM_UP + _ALERTS):
        decoy = made.decoys[number % len(made.decoys)]
        command = [made.driver("intruder"), made.folder / "ordinary", decoy]
        with subprocess.Popen(
            command, user=OWNER, group=OWNER, extra_groups=[], cwd="/", env={}, stdout=subprocess.PIPE
        ) as intruder:
            read_ns = _first_line_of(watcher, decoy, intruder.pid)
            opened_ns = int(intruder.communicate()[0].split()[0])
        if number >= _WARM_UP:
            samples.append(read_ns - opened_ns)
    return [p50(samples), p99(samples)]


def _first_line_of(watcher: Watcher, decoy: Path, pid: int) -> int:
    while True:
        try:
            read_ns, line = watcher.lines.get(timeout=_ALERT_S)
        except queue.Empty:
            raise CannotMeasureError(f"{watcher.name} told nothing of an open within {_ALERT_S} s") from None
        if watcher.is_of(line, decoy, pid):
            return read_ns


def _result(name: str, names: str) -> Result:
    return Result(name, names, [], [], [])


def _row(off: Result, each: Result) -> dict[str, object]:
    if each.problem:
        return {"problem": each.problem}
    return {
        "exec": p50(each.execs) / p50(off.execs),
        "open": p50(each.opens) / p50(off.opens),
        "alert_p50_ms": each.alerts_ns[0] / 1e6,
        "alert_p99_ms": each.alerts_ns[1] / 1e6,
        "opens_seen": len(each.seen & OPENINGS),
        "openers_named": len(each.named & OPENINGS),
        "of_opens": len(OPENINGS),
        "changes_seen": len(each.seen - OPENINGS),
        "of_changes": len(WAYS) - len(OPENINGS),
        "not_seen": [way.name for way in WAYS if way.name not in each.seen],
        "names": each.names,
    }


def _show(off: Result, results: list[Result], said: str) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    titles = ("", "exec", "other opens", "alert p50 / p99", "opens seen", "opener named", "changes seen", "by")
    for title in titles:
        table.add_column(title)
    for each in results:
        row = _row(off, each)
        if each.problem:
            table.add_row(each.name, "[red]-[/]")
            continue
        table.add_row(
            each.name, f"{row['exec']:.2f} x", f"{row['open']:.2f} x",
            f"{row['alert_p50_ms']:.2f} / {row['alert_p99_ms']:.2f} ms", f"{row['opens_seen']} of {row['of_opens']}",
            str(row["openers_named"]), f"{row['changes_seen']} of {row['of_changes']}", each.names,
        )  # fmt: skip
    console = Console(width=120, highlight=False)
    console.print(table)
    for each in results:
        if each.problem:
            console.print(f"[red]{each.name} was not measured:[/] {escape(each.problem)}")
        elif missing := [way.title for way in WAYS if way.name not in each.seen]:
            console.print(f"{each.name} does not tell: {', '.join(missing)}")
    console.print(f"[dim]{said}; {_TURNS} turns of each, {_ALERTS} opens for the alerts[/]")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
