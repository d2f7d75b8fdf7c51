"""The monitor as a process: what it is made of, and its life."""

from agent_broker.monitor_main.main import run

__all__ = ["run"]
