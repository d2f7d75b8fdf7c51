"""How the demo looks: numbered steps, a few lines of evidence each, a tick; 80 columns, and a picture of it."""

import sys
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

COLUMNS = 80
_INDENT = 3
_LABEL_COLUMNS = 10
_KIND_COLUMNS = 16


class Show:
    """Prints, and records what it prints if a picture is wanted."""

    def __init__(self, picture: Path | None = None) -> None:
        self._picture = picture
        self.console = Console(
            record=picture is not None,
            force_terminal=True if picture else None,
            width=COLUMNS,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._began_s = time.monotonic()

    def wait(self) -> None:
        """Say that nothing can be seen yet; only where it can be taken back, and never in the picture."""
        if sys.stdout.isatty() and self._picture is None:
            sys.stdout.write("setting up ...\r")
            sys.stdout.flush()

    def title(self, what: str, subject: str) -> None:
        """Open the demo."""
        self.console.print(Text.assemble((what, "bold"), "  ", (subject, "dim")))

    def step(self, number: int, title: str) -> None:
        """Begin a step."""
        self._began_s = time.monotonic()
        self.console.print()
        self.console.print(Text.assemble((f"{number}", "bold reverse cyan"), "  ", (title, "bold")))

    def fact(self, label: str, text: str | Text) -> None:
        """One line of evidence; a long one folds below itself."""
        line = Table.grid(padding=(0, 1))
        line.add_column(width=_LABEL_COLUMNS, no_wrap=True, style="cyan")
        line.add_column(overflow="fold")
        line.add_row(label, text if isinstance(text, Text) else Text(text))
        self._print(line)

    def command(self, line: str) -> None:
        """Show a command as typed."""
        self._print(Text.assemble(("$ ", "dim"), (line, "bold green")))

    def quote(self, lines: Iterable[str], style: str = "dim") -> None:
        """Show what a program printed, as it printed it."""
        for line in lines:
            self._print(Text(line, style=style, overflow="fold"))

    def alert(self, severity: str, kind: str, lineage: str) -> None:
        """Show an alert in one line."""
        line = Table.grid(padding=(0, 1))
        line.add_column(style="bold red", no_wrap=True)
        line.add_column(width=_KIND_COLUMNS, style="red", no_wrap=True)
        line.add_column(overflow="fold")
        line.add_row(severity, kind, lineage)
        self._print(line)

    def table(self, lines: Iterable[str]) -> None:
        """Show a table that a program printed for COLUMNS columns."""
        for line in lines:
            text = line.lstrip()
            self._print(Text(text, style="dim", no_wrap=True), indent=len(line) - len(text))

    def held(self, what: str) -> None:
        """End a step that held."""
        took = f"{time.monotonic() - self._began_s:.1f} s"
        line = Table.grid(padding=(0, 1))
        for style in ("bold green", "green", "dim"):
            line.add_column(style=style)
        line.add_row("✔", what, took)
        self._print(line)

    def note(self, text: str, style: str = "yellow") -> None:
        """Say something that people must not miss."""
        self._print(Text(text, style=style))

    def end(self, text: str, remark: str) -> None:
        """Close the demo."""
        self.console.print()
        self.console.print(Rule(style="green"))
        self.console.print(Text(text, style="bold green"))
        self.console.print(Text(remark, style="dim"))

    def failed(self, expected: str, seen: str, logs: Iterable[tuple[str, list[str]]]) -> None:
        """Say which expectation did not hold, and what the daemons said last."""
        self._print(Text("✘ this step did not hold", style="bold red"))
        self.fact("expected", expected)
        self.fact("seen", seen)
        for name, lines in logs:
            self.fact(name, "\n".join(lines) or "(it said nothing)")

    def save(self, title: str) -> None:
        """Write the picture, if one is wanted."""
        if self._picture is not None:
            self.console.save_svg(str(self._picture), title=title, clear=False)

    def _print(self, what: Text | Table, indent: int = _INDENT) -> None:
        self.console.print(Padding(what, (0, 0, 0, indent), expand=False))
