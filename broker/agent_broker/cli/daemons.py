"""The two daemons: which module is which, imported only when it runs. Nothing of the vault is loaded by the monitor."""

from importlib import import_module

from agent_broker.config.document import load_config
from agent_broker.config.layout import Layout

_MODULES = {"monitor": "agent_broker.monitor_main", "daemon": "agent_broker.daemon"}


def run_daemon(name: str, layout: Layout) -> None:
    """Run ``monitor`` or ``daemon`` until it is told to stop.

    Raises:
        AgentBrokerError: as the daemon's own ``run``.
    """
    import_module(_MODULES[name]).run(layout, load_config(layout.config_file))
