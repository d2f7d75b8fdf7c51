"""The table that people read, and the same as JSON."""

import json
import os
import platform
import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.bench.bars import BARS
from tests.bench.figures import Figure

_COLUMNS = 80


class Report:
    """What was measured, and what could not be."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.failures: dict[str, str] = {}
        self._conditions = conditions()

    def add(self, figures: list[Figure]) -> None:
        """Take the figures of one bench."""
        self.figures += figures

    def failed(self, name: str, why: str) -> None:
        """Note that a bench gave no figures."""
        self.failures[name] = why

    def show(self) -> None:
        """Print the table."""
        console = Console(width=_COLUMNS, highlight=False)
        table = Table(box=box.SIMPLE_HEAD, show_lines=False, pad_edge=False, expand=True)
        table.add_column("figure", ratio=5)
        table.add_column("measured", ratio=5)
        table.add_column("bar", justify="right", no_wrap=True)
        table.add_column("holds", justify="center", no_wrap=True)
        for figure in self.figures:
            bar = BARS[figure.key]
            holds = "[green]yes[/]" if bar.holds(figure.value) else "[bold red]NO[/]"
            table.add_row(
                bar.title, f"[bold]{bar.shown(figure.value)}[/]  [dim]{escape(figure.detail)}[/]", bar.text, holds
            )
        if self.figures:
            console.print(table)
            console.print(f"[dim]{self._conditions}[/]")
        for name, why in self.failures.items():
            console.print(f"[bold red]not measured:[/] {name}: {escape(why)}")

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        rows = [
            {
                "key": figure.key,
                "title": BARS[figure.key].title,
                "value": figure.value,
                "unit": BARS[figure.key].unit,
                "detail": figure.detail,
                "bar": BARS[figure.key].text,
                "source": BARS[figure.key].source,
                "holds": BARS[figure.key].holds(figure.value),
            }
            for figure in self.figures
        ]
        document = {"conditions": self._conditions, "figures": rows, "not_measured": self.failures}
        path.write_text(json.dumps(document, indent=2) + "\n")


def conditions() -> str:
    """What a figure depends on, as it is now: the kernel, the cores, the load."""
    version = ".".join(map(str, sys.version_info[:3]))
    return (
        f"Linux {platform.release()}, {os.cpu_count()} cores, Python {version}; "
        f"load average at the start {os.getloadavg()[0]:.2f}"
    )
