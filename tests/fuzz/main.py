"""``make fuzz``: runs each fuzz target for a while, in a process of its own, over the committed corpus.

    python -m tests.fuzz.main [--seconds N] [NAME...]

Fails if a target fails (the input is saved under .build/fuzz, and belongs into the corpus once the bug is fixed) or
made so few executions that it proved nothing. New inputs that reach new code are kept in .build/fuzz for the next run.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import CORPUS, LONGEST_INPUT_BYTES, NAMES

FOLDER = Path(".build/fuzz")
FEWEST_EXECUTIONS = 1000
_EXECUTED = re.compile(r"^stat::number_of_executed_units: *(\d+)", re.MULTILINE)


def run(name: str, seconds: int) -> str:
    """Run one target; return why it failed, or nothing."""
    found = FOLDER / "corpus" / name
    found.mkdir(parents=True, exist_ok=True)
    saved = FOLDER / f"{name}-"
    log = FOLDER / f"{name}.log"
    longest = LONGEST_INPUT_BYTES[name]
    options = [f"-max_total_time={seconds}", f"-max_len={longest}", f"-artifact_prefix={saved}", "-print_final_stats=1"]
    with log.open("wb") as output:
        status = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.one_target", name, *options, str(found), str(CORPUS / name)],
            stdout=output, stderr=subprocess.STDOUT, check=False,
        ).returncode  # fmt: skip
    text = log.read_text(errors="replace")
    executed = int((_EXECUTED.findall(text) or ["0"])[-1])
    print(f"{name}: {executed} executions in {seconds} s, {len(list(found.iterdir()))} inputs found", flush=True)
    if status:
        print("\n".join(text.splitlines()[-40:]))
        return f"{name} failed; its input is {saved}*, its output {log}"
    if executed < FEWEST_EXECUTIONS:
        return f"{name} made {executed} executions only, see {log}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=20, help="for each target")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    chosen = parser.parse_args()
    problems = [problem for name in chosen.names or NAMES if (problem := run(name, chosen.seconds))]
    print("\n".join(problems) or "fuzz: nothing found")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
