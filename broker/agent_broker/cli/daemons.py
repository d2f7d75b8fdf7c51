"""The two daemons: which module is which, imported only when it runs. Nothing of the vault is loaded by the monitor."""

from importlib import import_module

import msgspec

from agent_broker.config.document import load_config
from agent_broker.config.layout import Layout

_MODULES = {"monitor": "agent_broker.monitor_main", "daemon": "agent_broker.daemon"}


def run_daemon(name: str, layout: Layout, *, stop: bool | None = None) -> None:
    """Run ``monitor`` or ``daemon`` until it is told to stop.

    Args:
        name: which.
        layout: where its files are.
        stop: instead of ``[freeze] stop`` of the configuration; None: what stands there.

    Raises:
        AgentBrokerError: as the daemon's own ``run``.
    """
    config = load_config(layout.config_file)
    if stop is not None:
        config = msgspec.structs.replace(config, freeze=msgspec.structs.replace(config.freeze, stop=stop))
    import_module(_MODULES[name]).run(layout, config)
