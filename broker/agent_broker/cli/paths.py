"""``agent-broker paths``: which credential paths are watched, who may open them, and what root allows besides."""

import re
import time
from typing import Annotated

import typer

from agent_broker.cli import application
from agent_broker.cli.broker import administrator
from agent_broker.cli.enrolling import require_root
from agent_broker.cli.paths_text import (
    allowed_record,
    allowed_table,
    proposal_lines,
    row_record,
    rows_table,
)
from agent_broker.cli.paths_view import rows_of
from agent_broker.cli.terminal import cell, console, plural, print_json, say, when
from agent_broker.config.layout import Layout
from agent_broker.errors import MisuseError, UnavailableError
from agent_broker.identity.allowed import AllowedProgram, allow, load_allowed, remove_allowed
from agent_broker.monitor.learning import begin, load_lessons

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Credential paths: what is watched, who may open it."
)

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_Json = Annotated[bool, typer.Option("--json", help="JSON.")]


@app.command("list")
def list_paths(context: typer.Context, json: _Json = False) -> None:
    """Show the watched patterns: what they hold, how many files match now, and who may open them."""
    require_root()
    state = application.of(context)
    rows = rows_of(state.layout, state.config())
    allowed = load_allowed(state.layout.allowed_folder)
    if json:
        print_json(
            {"paths": [row_record(each) for each in rows], "allowed": [allowed_record(each) for each in allowed]}
        )
        return
    console().print(rows_table(rows))
    if allowed:
        console().print()
        console().print(allowed_table(allowed, time.time_ns()))


@app.command()
def learn(
    context: typer.Context,
    duration: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long: 30m, 1h, 7d at most; 0 ends it.", show_default=True)
    ] = "1h",
    json: _Json = False,
) -> None:
    """Collect opens that would be reported as proposals instead, for a while; nothing is allowed by itself."""
    require_root()
    layout = application.of(context).layout
    lessons = begin(layout.learnt_file, seconds_of(duration))
    _tell_monitor(layout)
    if json:
        print_json({"until_ns": lessons.until_ns})
    elif lessons.until_ns:
        console().print(cell(f"learning until {when(lessons.until_ns)}; then: agent-broker paths proposals"))
    else:
        console().print(cell("learning ended; see: agent-broker paths proposals"))


@app.command()
def proposals(context: typer.Context, json: _Json = False) -> None:
    """Show what was learnt: each program and pattern, with the evidence."""
    require_root()
    lessons = load_lessons(application.of(context).layout.learnt_file)
    if json:
        print_json(lessons)
        return
    for each in lessons.proposals:
        console().print(cell("\n".join(proposal_lines(each))))
    if lessons.until_ns > time.time_ns():
        say(f"learning goes on until {when(lessons.until_ns)}")
    if not lessons.proposals:
        say("nothing was learnt; next: sudo agent-broker paths learn --for 1h")


@app.command("allow")
def allow_proposal(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="N", min=1, help="Of the proposal.", show_default=False)],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with it.", show_default=False)] = "",
    expires: Annotated[str, typer.Option(metavar="TIME", help="For how long: 30d.", show_default="for ever")] = "",
    json: _Json = False,
) -> None:
    """Let the program of a proposal, identified by its hash, open what matches the pattern."""
    require_root()
    layout = application.of(context).layout
    found = next((each for each in load_lessons(layout.learnt_file).proposals if each.number == number), None)
    if found is None:
        raise MisuseError(f"there is no proposal {number}", next_step="agent-broker paths proposals shows them")
    now_ns = time.time_ns()
    expires_ns = now_ns + seconds_of(expires) * 1_000_000_000 if expires else 0
    record = AllowedProgram(found.program, found.sha256, found.package, (found.opens,), reason, now_ns, expires_ns)
    allow(layout.allowed_folder, record)
    _tell_monitor(layout)
    if json:
        print_json(allowed_record(record))
    else:
        console().print(cell(f"allowed: {record.program} may open {found.opens}"))


@app.command()
def forbid(
    context: typer.Context,
    sha256: Annotated[str, typer.Argument(metavar="SHA256", help="Of the program; its first digits will do.")],
    json: _Json = False,
) -> None:
    """Take back what was allowed to a program."""
    require_root()
    layout = application.of(context).layout
    found = [each for each in load_allowed(layout.allowed_folder) if sha256 and each.sha256.startswith(sha256)]
    if not found:
        raise MisuseError("nothing is allowed to that program", next_step="agent-broker paths list shows what is")
    for each in found:
        remove_allowed(layout.allowed_folder, each)
    _tell_monitor(layout)
    if json:
        print_json([allowed_record(each) for each in found])
    else:
        console().print(cell(f"forbidden: {plural(len(found), 'entry')} removed"))


def seconds_of(text: str) -> int:
    """Return the seconds of ``90``, ``30m``, ``1h``, ``7d``.

    Raises:
        MisuseError: it is not a time.
    """
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text, re.ASCII)
    if found is None:
        raise MisuseError("a time is a number with s, m, h or d behind it", next_step="for instance: --for 1h")
    return int(found[1]) * _UNITS_S[found[2] or "s"]


def _tell_monitor(layout: Layout) -> None:
    """Have the registry read again; a broker that is down is told about, since the change is written all the same."""
    try:
        with administrator(layout) as broker:
            broker.reload()
    except UnavailableError as error:
        say(f"written, and in force when the monitor starts: {error.message}")
