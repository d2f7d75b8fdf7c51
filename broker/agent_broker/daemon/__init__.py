"""The broker: holds the vault, has no privilege, answers shims, agents and the control plane."""

from agent_broker.daemon.main import run

__all__ = ["run"]
