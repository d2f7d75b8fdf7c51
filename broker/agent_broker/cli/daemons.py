"""The two daemons, started without typer; ``agent-broker monitor --help`` is typer's all the same."""

from importlib import import_module
from pathlib import Path

from agent_broker.config.document import load_config
from agent_broker.config.layout import Layout


def run_daemon(name: str, root: str | None) -> None:
    """Run ``monitor`` or ``daemon`` below a root (None: as the environment says) until it is told to stop.

    Raises:
        AgentBrokerError: as the daemon's own ``run``.
    """
    layout = Layout.from_environment(Path(root) if root else None)
    module = {"monitor": "agent_broker.monitor_main", "daemon": "agent_broker.daemon"}[name]
    import_module(module).run(layout, load_config(layout.config_file))
