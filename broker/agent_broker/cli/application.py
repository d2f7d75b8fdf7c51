"""What every command is given: where state lies, and how it is configured."""

import typer

from agent_broker.config.document import Config, load_config
from agent_broker.config.layout import Layout
from agent_broker.errors import AgentBrokerError


class Application:
    """One run of the command line."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def config(self) -> Config:
        """Return the configuration.

        Raises:
            MisuseError, IntegrityError: as ``load_config``.
        """
        return load_config(self.layout.config_file)


def of(context: typer.Context) -> Application:
    """Return the Application of a command's context.

    Raises:
        AgentBrokerError: the command was not started through ``app``.
    """
    if not isinstance(context.obj, Application):
        raise AgentBrokerError("this command was started without the global options")
    return context.obj
