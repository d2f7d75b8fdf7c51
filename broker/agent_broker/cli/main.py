"""The command's entry: the one place where an error becomes a message and an exit code.

``--version`` alone answers before anything else is imported, since scripts ask it often.
"""

import os
import sys
from collections.abc import Sequence

from agent_broker import __version__
from agent_broker.errors import AgentBrokerError

INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit code (docs/cli.md)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        sys.stdout.write(f"agent-broker {__version__}\n")
        return 0
    try:
        return _run(words)
    except AgentBrokerError as error:
        sys.stderr.write(f"agent-broker: {error.explain()}\n")
        _show_cause()
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the edge: a person gets a sentence, not a traceback
        sys.stderr.write(
            f"agent-broker: failed inside: {type(error).__name__} {_place(error)}\n"
            "  please report it; AGENT_BROKER_DEBUG=1 shows where it came from\n"
        )
        _show_cause()
        return AgentBrokerError.exit_code


def _run(words: list[str]) -> int:
    daemon = _plain_daemon(words)
    if daemon is not None:
        from pathlib import Path  # noqa: PLC0415 - as below

        from agent_broker.cli.daemons import run_daemon  # noqa: PLC0415 - as below
        from agent_broker.config.layout import Layout  # noqa: PLC0415 - as below

        name, root = daemon
        run_daemon(name, Layout.from_environment(Path(root) if root else None))
        return 0
    from agent_broker.cli.app import command  # noqa: PLC0415 - 100 ms that --version need not wait for

    try:
        command()(args=words, prog_name="agent-broker")
    except SystemExit as done:  # typer ends every command line with it
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    return 0


def _plain_daemon(words: list[str]) -> tuple[str, str | None] | None:
    """Return daemon and root of ``[--root DIR] monitor|daemon``; None: not that, so typer reads it.

    A daemon runs for months: it does without the 9 MB of a command line's parser and tables.
    """
    if not words or words[-1] not in {"monitor", "daemon"}:
        return None
    match words[:-1]:
        case []:
            return words[-1], None
        case ["--root", folder]:
            return words[-1], folder
        case _:
            return None


def _place(error: Exception) -> str:
    """Where it was raised; its text is left out, since it may quote what must not be shown."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""


def _show_cause() -> None:
    if os.environ.get("AGENT_BROKER_DEBUG") == "1":
        import traceback  # noqa: PLC0415 - 10 ms that --version need not wait for

        traceback.print_exc()
