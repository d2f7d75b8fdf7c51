"""Several agents in one go: one question, a transaction each. What fails leaves the others right, and is told."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import typer
from msgspec import Struct

from agent_broker.cli.plan_text import show_report
from agent_broker.cli.terminal import cell, console, labelled
from agent_broker.enroll.report import Report
from agent_broker.errors import AgentBrokerError, MisuseError

_LABEL_COLUMNS = 11
_Name = TypeVar("_Name", str, tuple[str, str])


class Ended(Struct, frozen=True):
    """How one agent's transaction ended."""

    agent: str
    report: Report | None
    error: AgentBrokerError | None = None
    """Why there is no report; nothing was changed then, or ``enroll --recover`` is named as the next step."""
    user: str = ""
    """Whose, if several users' agents are dealt with."""

    @property
    def whose(self) -> str:
        """Say which agent, and whose if that is not clear."""
        return f"{self.agent} of {self.user}" if self.user else self.agent


def names_of(agents: Iterable[str], *, every: bool, command: str) -> tuple[str, ...]:
    """Return which agents are named, each once; none: all of them.

    Raises:
        MisuseError: neither or both of a name and ``--all``.
    """
    names = tuple(dict.fromkeys(agents))
    if every and names:
        raise MisuseError("--all goes with no name")
    if not names and not every:
        raise MisuseError(f"{command} needs to know which agent", next_step=f"agent-broker {command} claude")
    return names


def one_by_one(names: Iterable[_Name], act: Callable[[_Name], Report]) -> list[Ended]:
    """Carry out each; an error of one does not keep the others from theirs. A name: the agent, or agent and user."""
    ended = []
    for name in names:
        agent, user = (name, "") if isinstance(name, str) else name
        try:
            ended.append(Ended(agent, act(name), user=user))
        except AgentBrokerError as error:
            ended.append(Ended(agent, None, error, user))
    return ended


def show_ended(ended: Iterable[Ended], *, as_planned: bool) -> None:
    """Print the report of each, or why there is none."""
    out = console()
    for each in ended:
        if each.report is not None:
            show_report(each.report, out, as_planned=as_planned)
        elif each.error is not None:
            columns = max(_LABEL_COLUMNS, len(each.whose) + 3)
            for line in labelled(each.whose, f"failed: {each.error.message}", out.width, label_columns=columns):
                out.print(cell(line, "red"))
            step = each.error.next_step
            for line in labelled("", step, out.width, label_columns=columns) if step else ():
                out.print(cell(line))


def ended_record(each: Ended) -> dict[str, Any]:
    """Return what ``--json`` prints of one (docs/cli.md)."""
    error = None if each.error is None else {"message": each.error.message, "next_step": each.error.next_step}
    user = {"user": each.user} if each.user else {}
    return {"agent": each.agent, **user, "report": each.report, "error": error}


def exit_code(ended: Iterable[Ended]) -> int:
    """Return the exit code of the first that failed; 0: none did."""
    return next((each.error.exit_code for each in ended if each.error is not None), 0)


def leave(ended: Iterable[Ended]) -> None:
    """End the command with the exit code of the first that failed; return if none did.

    Raises:
        typer.Exit: one failed.
    """
    if code := exit_code(ended):
        raise typer.Exit(code)
