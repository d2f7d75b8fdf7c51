"""``agent-broker logout TOOL --host HOST``: a server's password is deleted from the vault."""

from typing import Annotated

import typer

from agent_broker.cli import application
from agent_broker.cli.enrolling import confirm, require_answer, require_root, uid_of, user_of
from agent_broker.cli.terminal import print_json, printable, say
from agent_broker.cli.tool_login import PASSWORDS, forget_password, refuse_own_login

app = typer.Typer(add_completion=False)


@app.command()
def logout(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    tool: Annotated[str, typer.Argument(metavar="TOOL", help=", ".join(PASSWORDS), show_default=False)],
    host: Annotated[str, typer.Option("--host", metavar="HOST[/PATH]", help="Which server's.", show_default=False)],
    user: Annotated[str, typer.Option(metavar="USER", help="Whose tool.", show_default="who called sudo")] = "",
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="Whose at the server.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Delete a tool's password for a server. Without another copy it is gone."""
    state = application.of(context)
    require_root()
    refuse_own_login(tool, "logout")
    require_answer(json=json, given=yes)
    confirm(f"Delete the password of {printable(tool)} for {printable(host)}?", yes=yes)
    gone = forget_password(state, tool, uid_of(user_of(user)), host=host, name=name)
    if json:
        print_json({"credential": gone, "removed": True})
    else:
        say(f"{gone} is deleted")
