"""The broker's life: root for a moment, then its own user until it is told to stop.

While root: folders, the root key, every socket. The rest, the vault first of all, is opened by the user that the
broker has become, so nothing it works with needs a privilege. Modules that are imported late would be read by that
user too, from a folder that it may not be able to enter: all imports stand at the top.
"""

import asyncio
import contextlib
import encodings.idna  # noqa: F401 - loaded by name at the first look-up of a host
import logging
import os
import socket
import sys
from collections.abc import Coroutine

from msgspec import Struct

from agent_broker.config.accounts import broker_account
from agent_broker.config.document import Config
from agent_broker.config.folders import make_folders
from agent_broker.config.layout import Layout
from agent_broker.daemon.control import Control
from agent_broker.daemon.decoy_requests import refusing_decoys
from agent_broker.daemon.feed import IncidentFeed
from agent_broker.daemon.outage import watch_monitor
from agent_broker.daemon.parts import Parts
from agent_broker.daemon.serve import make_endpoint, make_minters, make_sign_socket
from agent_broker.daemon.sinks import make_sinks
from agent_broker.errors import UnavailableError
from agent_broker.identity.distribution import Distribution
from agent_broker.lifetime import settle, told_to_stop
from agent_broker.privilege import allow_descriptors, become, hide_memory, take_precedence
from agent_broker.transport.agent_socket import AgentSocket, bind_agent_socket
from agent_broker.transport.control_server import ControlServer
from agent_broker.transport.keyrings import BACKEND as KEYRING_BACKEND
from agent_broker.transport.keyrings import COMMAND as KEYRING
from agent_broker.transport.keyrings import Keyrings
from agent_broker.transport.launch import PROTOCOL as LAUNCH
from agent_broker.transport.launch import Launches
from agent_broker.transport.listener import bind_unix_listener
from agent_broker.transport.protocols import Protocols
from agent_broker.transport.tool_protocols import PROTOCOLS as TOOL_PROTOCOLS
from agent_broker.transport.tool_protocols import ToolProtocols
from agent_broker.vault.root_key import load_root_key
from agent_broker.vault.secret import Secret

_LOG = logging.getLogger(__name__)
_BACKLOG = 128


class _Bound(Struct):
    """What only root can make."""

    root_key: Secret
    agent: socket.socket
    inject: tuple[socket.socket, ...]
    sign: socket.socket


def run(layout: Layout, config: Config) -> None:
    """Run the broker until SIGTERM or SIGINT.

    Raises:
        UnavailableError: not root, or a socket, folder or key can't be had.
        MisuseError, IntegrityError: configuration, policy, registry or stored state is wrong.
    """
    logging.basicConfig(level=logging.INFO, format="agent-broker daemon: %(message)s", stream=sys.stderr)
    if os.geteuid() != 0:
        raise UnavailableError("the broker must be started as root; it becomes its own user at once")
    hide_memory()
    allow_descriptors()
    take_precedence()
    asyncio.run(_live(layout, config))


async def _live(layout: Layout, config: Config) -> None:
    stop = told_to_stop()
    account = broker_account(config.daemon)
    make_folders(layout, account)
    bound = _bind(layout, config)
    sinks = make_sinks(layout, config.alerts, account)
    control = Control()
    server = ControlServer(control)
    await server.start(admin=layout.admin_socket, read=layout.read_socket, read_gid=account.gid)
    become(account.uid, account.gid)
    parts = Parts(layout, config, bound.root_key, sinks)
    bound.root_key.wipe()
    try:
        await _serve(parts, bound, control, stop)
    finally:
        await server.stop()
        await parts.close()


async def _serve(parts: Parts, bound: _Bound, control: Control, stop: asyncio.Event) -> None:
    endpoint = make_endpoint(parts)
    minters = make_minters(parts)
    tools = ToolProtocols(credentials=parts.enrolled, callers=parts.monitor, issuer=parts.issuer, minters=minters)
    keyrings = Keyrings(credentials=parts.enrolled, callers=parts.monitor, issuer=parts.issuer, keeper=parts.vault)
    launches = Launches(credentials=parts.enrolled, callers=parts.monitor, issuer=parts.issuer, packages=Distribution())
    protocols = Protocols(
        agents=parts.enrolled,
        callers=parts.monitor,
        issuer=parts.issuer,
        tools={
            **dict.fromkeys(TOOL_PROTOCOLS, tools.handle),
            LAUNCH: launches.handle,
            **dict.fromkeys((KEYRING, KEYRING_BACKEND), keyrings.handle),
        },
    )
    handle = refusing_decoys(protocols.handle, parts.decoy_use, parts.monitor)
    agent_socket = AgentSocket.from_listening(bound.agent, handle, standings=parts.standings)
    feeds = [asyncio.create_task(each) for each in _feeds(parts)]
    await endpoint.serve(list(bound.inject))
    agent_socket.start()
    sign_socket = make_sign_socket(parts, bound.sign)
    sign_socket.start()
    parts.sinks.start()
    control.ready(parts, agent_socket.peer_method())
    await parts.journal.append("started", {"pid": os.getpid(), "uid": os.getuid()})
    settle()
    _LOG.info("ready, as user %d", os.getuid())
    try:
        await stop.wait()
    finally:
        for feed in feeds:
            feed.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await feed
        await agent_socket.close()
        await sign_socket.close()
        await endpoint.close()
        for minter in minters.values():
            await minter.close()


def _feeds(parts: Parts) -> tuple[Coroutine[None, None, None], ...]:
    return IncidentFeed(parts).follow(), watch_monitor(parts), parts.views.run()


def _bind(layout: Layout, config: Config) -> _Bound:
    root_key = load_root_key(config.vault.root_key, key_file=layout.root_key_file)
    return _Bound(
        root_key=root_key,
        agent=bind_agent_socket(layout.agent_socket),
        inject=(_bind_tcp(config), bind_unix_listener(layout.inject_socket, kind=socket.SOCK_STREAM, mode=0o666)),
        sign=bind_unix_listener(layout.sign_socket, kind=socket.SOCK_STREAM, mode=0o666),
    )


def _bind_tcp(config: Config) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.inject.address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.inject.address, config.inject.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UnavailableError(
            f"{config.inject.address}:{config.inject.port} can't be bound: {error.strerror}",
            next_step="another program has the port: set [inject] port in config.toml, and enroll the agents again",
        ) from error
    listener.setblocking(False)  # noqa: FBT003 - the socket module's own signature
    return listener
