"""The corpus: programs in normal use, and how many alerts each makes, folded. ``docs/noise.md`` is written from it.

python -m tests.e2e.noise.table --write
"""

import argparse
from pathlib import Path

from tests.e2e.noise import rows_credentials, rows_enrolled, rows_files, rows_tools, rows_update
from tests.e2e.noise.row import Row, Stated

ROWS: tuple[Row, ...] = (*rows_files.ROWS, *rows_tools.ROWS, *rows_credentials.ROWS)
"""With the monitor alone."""
ENROLLED: tuple[Stated, ...] = (*rows_enrolled.ROWS, *rows_update.STEPS)
"""With both daemons; tests.e2e.noise.enrolled measures them."""
PARTS: tuple[tuple[str, tuple[Stated, ...]], ...] = (
    ("Programs that walk, search, index and save homes", rows_files.ROWS),
    ("A developer's own tools, and an agent", rows_tools.ROWS),
    ("Programs that open credential files", rows_credentials.ROWS),
    ("Tools at servers that demand a credential", rows_enrolled.ROWS),
    ("A real agent, updated by the real npm", rows_update.STEPS),
)
DOCUMENT = Path(__file__).parents[3] / "docs/noise.md"
_HEAD = """# What normal use raises

Programs in normal use, the real ones, in the home of a developer with an enrolled agent, its decoys, and credential
files in their places: how many alerts each raises, folded as they are told. tests/e2e/noise states the numbers and
carries each row out; this page is written from what it states (`python -m tests.e2e.noise.table --write`), and the
tests fail where a row raises another number, or this page says something else.

What raises one alert at each use can be allowed for good by one line, which the alert names: `agent-broker alert ack
ID --allow`.
"""


def document() -> str:
    """Return the page."""
    total = sum(len(rows) for _, rows in PARTS)
    silent = sum(row.alerts == 0 for _, rows in PARTS for row in rows)
    parts = [_HEAD, f"\n{total} rows; {silent} of them raise nothing.\n"]
    for title, rows in PARTS:
        parts.append(f"\n## {title}\n\n| in use | alerts | severity |\n|---|---|---|\n")
        parts += [f"| {row.name} | {row.alerts} | {row.severity} |\n" for row in rows]
    return "".join(parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", required=True, help="write docs/noise.md")
    parser.parse_args()
    DOCUMENT.write_text(document())
