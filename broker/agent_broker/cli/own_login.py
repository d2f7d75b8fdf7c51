"""An agent's own login in a private room (``enroll.login_process`` has the law), in the person's terminal.

How the person's browser comes back: Claude and Gemini show an address, and ask for the code that the page shows; any
browser does. Codex listens on loopback, in the machine's own network, so a browser on this machine reaches it, and one
on another machine does not: for that there is the login by a code (``--device``), which is said before it starts.
"""

import os
from typing import Final

from agent_broker.cli.application import Application
from agent_broker.cli.login_terminal import LentTerminal
from agent_broker.cli.terminal import say
from agent_broker.enroll.login_agents import LOGINS
from agent_broker.enroll.login_room import log_in, one_login
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import Enrollment
from agent_broker.inject.oauth_servers import OPENAI
from agent_broker.vault.secret import Secret

_HANDED_ON: Final = (
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
)
"""A proxy sees TLS only; variables that name certificate authorities are not handed on."""

_DEVICE: Final = "--device-auth"  # of `codex login`


def new_login(state: Application, enrollment: Enrollment, kind: str, *, device: bool) -> Secret:
    """Let the person log the agent in; return what the vault keeps of it.

    Args:
        state: of this command.
        enrollment: whose executable runs.
        kind: of the credential that it is for, one of LOGINS.
        device: by a code that is entered on any device.

    Raises: see log_in; MisuseError also if there is no terminal, or the agent knows no such way.
    """
    arguments = _arguments(state, kind, device=device)
    environment = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    port = 0 if _DEVICE in arguments else LOGINS[kind].callback_port
    with one_login(state.layout.run_folder):
        terminal = LentTerminal()
        say(f"{enrollment.agent} logs in, in a private room: it leaves nothing there. Ctrl-C three times ends it.")
        if port:
            say(
                f"It waits at 127.0.0.1:{port} for a browser of this machine. Is yours on another one? Forward the "
                f"port (ssh -L {port}:127.0.0.1:{port} HOST), or end this and add --device."
            )
        try:
            return log_in(
                enrollment,
                LOGINS[kind],
                folder=state.layout.run_folder,
                terminal_fd=terminal.slave_fd,
                environment=environment,
                hand_over=terminal.hand_over,
                extra=arguments,
            )
        finally:
            terminal.close()


def _arguments(state: Application, kind: str, *, device: bool) -> tuple[str, ...]:
    """What the agent's login needs besides: Codex by a code, and at the operator's own login server if there is one."""
    if kind != OPENAI.kind:
        if device:
            raise MisuseError("--device is for codex only")
        return ()
    url = state.config().upstream.openai.oauth_token_url
    if url in {"", OPENAI.token_url}:
        return (_DEVICE,) if device else ()
    return (_DEVICE, "--experimental_issuer", url.removesuffix("/oauth/token"))
