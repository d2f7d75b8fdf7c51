"""A command's way to the broker. Apart from ``application``, so that the monitor never loads the control plane."""

import os

from agent_broker.config.layout import Layout
from agent_broker.errors import RefusedError, UnavailableError
from agent_broker.transport.control_client import ControlClient


def reader(layout: Layout) -> ControlClient:
    """Connect for reading: the group's socket; root may use its own if that one is not there.

    Raises:
        UnavailableError: no broker answers.
        RefusedError: this user is not in the broker's group.
    """
    try:
        return ControlClient(layout.read_socket)
    except RefusedError as error:
        raise RefusedError(
            error.rule, error.message, next_step="run it as root (sudo), or as a member of the group agent-broker"
        ) from error
    except UnavailableError:
        if os.geteuid() != 0:
            raise
        return ControlClient(layout.admin_socket)


def administrator(layout: Layout) -> ControlClient:
    """Connect as root.

    Raises:
        UnavailableError: no broker answers.
        RefusedError: not root.
    """
    return ControlClient(layout.admin_socket)
