"""``agent-broker notify``: alerts as notifications of the desktop of whoever runs it. Why so: audit.sinks.desktop."""

import os
import time
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from agent_broker.audit.sinks.desktop import Desktop, session_bus
from agent_broker.audit.sinks.port import is_wanted
from agent_broker.cli import application
from agent_broker.cli.broker import reader
from agent_broker.cli.main import INTERRUPTED
from agent_broker.cli.notified import Memory, state_file
from agent_broker.cli.terminal import plural, say
from agent_broker.config.document import load_config
from agent_broker.config.layout import Layout
from agent_broker.errors import MisuseError, UnavailableError
from agent_broker.monitor.incident import Incident
from agent_broker.transport.control_records import Missed

app = typer.Typer(add_completion=False)
_DECODER = msgspec.json.Decoder(Incident)
_STORED = 1_000  # audit.alerts.RECENT
_AT_ONCE = 5  # of those that came while nobody could be told; a person reads no more
_RETRY_S = 2.0

Severity = Literal["info", "warning", "critical"]


@app.command()
def notify(
    context: typer.Context,
    severity: Annotated[
        Severity | None, typer.Option(help="The least severe alert to show.", show_default="[alerts.desktop] severity")
    ] = None,
    all_users: Annotated[
        bool, typer.Option("--all-users", help="Also what other users' processes did to other users' files.")
    ] = False,
) -> None:
    """Show alerts as desktop notifications; run it in your session, as yourself."""
    if os.geteuid() == 0:
        raise MisuseError("a desktop's session lets only its own user in", next_step="run it without sudo")
    layout = application.of(context).layout
    wanted = severity or load_config(layout.config_file).alerts.desktop.severity
    follower = Follower(layout, wanted, None if all_users else os.getuid())
    try:
        follower.follow()
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


class Follower:
    """Follows the broker, and shows what concerns one user; waits for whatever is down."""

    def __init__(self, layout: Layout, severity: str, uid: int | None) -> None:
        """Touch nothing yet; ``uid`` None shows what concerns anybody."""
        self._layout = layout
        self._severity = severity
        self._uid = uid
        self._desktop = Desktop(session_bus(os.environ, os.getuid()))
        self._memory = Memory(state_file(os.environ, Path.home()))
        self._said = ""

    def follow(self) -> None:
        """Run until interrupted.

        Raises:
            RefusedError: this user may not read alerts.
        """
        while True:
            try:
                self._once()
            except UnavailableError as error:
                self._say_once(error.explain())
            time.sleep(_RETRY_S)

    def _once(self) -> None:
        """Show what was missed, then what comes; return when this fell behind.

        Raises:
            UnavailableError: the broker went away, or the desktop shows nothing: what is missed then is caught up.
        """
        with reader(self._layout) as broker, broker.alerts(0, follow=True) as stream:
            with broker.alerts(_STORED, follow=False) as stored:
                self._catch_up([_DECODER.decode(each) for each in stored if not isinstance(each, Missed)])
            self._say_once("showing alerts on the desktop; press Ctrl-C to stop")
            for each in stream:
                if isinstance(each, Missed):
                    return  # they are among the stored ones
                self._show(_DECODER.decode(each))

    def _catch_up(self, stored: list[Incident]) -> None:
        missed = self._memory.missed(stored)
        shown = [each for each in missed if self._concerns(each)]
        left_out = len(shown) - _AT_ONCE
        if left_out > 0:
            summary = f"agent-broker: {plural(left_out, 'earlier alert')}"
            self._desktop.notify(summary, "agent-broker alerts", "warning")
            for each in shown[:left_out]:
                self._memory.tell(each)
        for each in missed:
            self._show(each)

    def _show(self, incident: Incident) -> None:
        if not self._memory.is_new(incident):
            return
        if self._concerns(incident):
            self._desktop.show(incident)
        self._memory.tell(incident)

    def _concerns(self, incident: Incident) -> bool:
        if not is_wanted(incident, self._severity):
            return False
        if self._uid is None or not incident.lineage:
            return True
        is_mine = any(step.image.uid == self._uid for step in incident.lineage)
        return is_mine or incident.path.startswith(f"{Path.home()}/")

    def _say_once(self, sentence: str) -> None:
        if sentence != self._said:
            say(sentence)
        self._said = sentence
