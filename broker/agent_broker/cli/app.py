"""The tree of commands: names and global options; each command is a module of its own, imported when asked for."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from agent_broker import __version__
from agent_broker.cli.application import Application
from agent_broker.config.layout import ENVIRONMENT_VARIABLE, Layout

COMMANDS = (
    "scan",
    "enroll",
    "approve",
    "login",
    "logout",
    "unenroll",
    "account",
    "ssh",
    "managed",
    "decoy",
    "agent",
    "agents",
    "credentials",
    "paths",
    "alerts",
    "alert",
    "report",
    "notify",
    "lineage",
    "freeze",
    "thaw",
    "doctor",
    "run",
    "secret",
    "audit",
    "monitor",
    "daemon",
)
"""In the order of ``--help``; each is ``agent_broker.cli.NAME`` with a typer application ``app``."""


class _LazyGroup(TyperGroup):
    """A group that imports a command when it is looked up."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - typer's signature
        if cmd_name not in COMMANDS:
            return None
        found = get_command(import_module(f"agent_broker.cli.{cmd_name}").app)
        found.name = cmd_name
        return found


_app = typer.Typer(
    name="agent-broker",
    cls=_LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:  # noqa: FBT001 - typer's signature
    if asked:
        typer.echo(f"agent-broker {__version__}")
        raise typer.Exit


@_app.callback()
def _global_options(
    context: typer.Context,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder below which state, sockets and configuration lie; for tests and demos.",
            envvar=ENVIRONMENT_VARIABLE,
            show_default="/",
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback answers
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Give the use of secrets to verified AI coding agents, never the secrets themselves."""
    context.obj = Application(Layout.from_environment(root))


def command() -> Any:
    """Return the whole command as a callable of (args, prog_name), which ends with SystemExit."""
    return get_command(_app)
