"""``agent-broker run -- CMD``: start an agent so that its requests go through the broker.

For an ordinary user; needs no privilege and learns no secret. The environment is cleaned of what would taint the agent
and of what would lead it past the broker; then this process becomes the agent, so nothing stays behind.

With the broker's unix socket in its environment, Claude Code 2.1 takes address and token from there and from nowhere
else: neither the user's settings nor a project's can lead it elsewhere. Told that its provider is managed by the host
(CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST), it runs no project's apiKeyHelper either.
"""

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from agent_broker.cli import application, run_others, run_with
from agent_broker.cli.run_clouds import cloud_wiring
from agent_broker.cli.terminal import printable, say
from agent_broker.config.layout import ENVIRONMENT_VARIABLE, Layout
from agent_broker.enroll.account_keys import is_login
from agent_broker.errors import AgentBrokerError, IntegrityError, MisuseError, RefusedError, UnavailableError
from agent_broker.identity.environment import ENROLLED_RUNTIMES, allow, danger
from agent_broker.identity.registry import Allowance, Enrollment, load_registry
from agent_broker.inject.phantom import is_phantom

app = typer.Typer(add_completion=False)

SHIM = Path(__file__).parents[1] / "shim/agent-broker-shim"
PROTOCOL = "claude-api-key-helper"
BASE_URL = "http://agent-broker.invalid"  # never resolved: the client talks to the socket; .invalid by RFC 2606
SHIM_TIMEOUT_S = 5.0  # the shim itself gives up after 2 s
_NAME = re.compile(r"^agent-broker(-shim)?: ")

PAST_THE_BROKER = frozenset(
    {
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BASE_URL",
        "ANTHROPIC_BEDROCK_BASE_URL",
        "ANTHROPIC_CUSTOM_HEADERS",
        "ANTHROPIC_FOUNDRY_API_KEY",
        "ANTHROPIC_FOUNDRY_BASE_URL",
        "ANTHROPIC_IDENTITY_TOKEN",
        "ANTHROPIC_IDENTITY_TOKEN_FILE",
        "ANTHROPIC_UNIX_SOCKET",
        "ANTHROPIC_VERTEX_BASE_URL",
        "AWS_BEARER_TOKEN_BEDROCK",
        "CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR",
        "CLAUDE_CODE_CLIENT_CERT",
        "CLAUDE_CODE_CLIENT_KEY",
        "CLAUDE_CODE_HOST_CREDS_FILE",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_FOUNDRY",
        "CLAUDE_CODE_USE_VERTEX",
    }
)
"""Credentials and addresses that Claude Code 2.1 prefers to, or sends along with, the ones set here."""


@app.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})
def run(
    context: typer.Context,
    command: Annotated[
        list[str], typer.Argument(metavar="CMD", help="What to start, with its arguments.", show_default=False)
    ],
    account: Annotated[
        str, typer.Option("--as", metavar="NAME", help="The account to use.", show_default="by the folder")
    ] = "",
    given: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="NAME", help="A secret to give to CMD; repeatable.", show_default=False),
    ] = None,
) -> None:
    """Start an agent with the broker's phantom in place of a key, or any command with secrets of the vault."""
    layout = application.of(context).layout
    if given:
        _launch(layout, given, command, account)
    name = Path(command[0]).name
    if name in run_others.PAST_THE_BROKER:
        chosen = _chosen(layout, name, account) if account else None
        command = [command[0], *(run_others.options(name) if chosen else ()), *command[1:]]
        environment, left_out = run_others.other_environment(name, os.environ, Path.home(), _allowed(layout), chosen)
    else:
        words = (account,) if account else ()
        phantom = _phantom(layout, PROTOCOL, *words)
        cloud = cloud_wiring(Path.home(), phantom)
        environment, left_out = agent_environment(os.environ, layout, phantom, _allowed(layout), cloud)
    if left_out:
        say(f"agent-broker: left out of the environment: {', '.join(map(printable, left_out))}")
    _become(command, environment)


def _launch(layout: Layout, names: list[str], command: list[str], account: str) -> NoReturn:
    """Become the launcher, which becomes the command."""
    if account:
        raise MisuseError("--as is for agents, --with for other commands")
    path, words = run_with.launcher_command(layout, names, command)
    environment, left_out = run_with.clean_environment(os.environ, layout)
    if left_out:
        say(f"agent-broker: left out of the environment: {', '.join(map(printable, left_out))}")
    _become(words, environment, path)


def agent_environment(
    environment: Mapping[str, str],
    layout: Layout,
    phantom: str,
    allowed: frozenset[Allowance] = frozenset(),
    cloud: Mapping[str, str] | None = None,
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the agent's environment, and the names of the variables that were left out of it.

    ``cloud``: what leads it to its cloud, instead of the socket (run_clouds); None or empty: it is at Anthropic.
    """
    unwanted = PAST_THE_BROKER | {
        name
        for name, value in environment.items()
        if danger(name, ENROLLED_RUNTIMES) and allow(os.fsencode(name), os.fsencode(value)) not in allowed
    }
    kept = {name: value for name, value in environment.items() if name not in unwanted}
    kept |= cloud or {
        "ANTHROPIC_UNIX_SOCKET": str(layout.inject_socket),
        "ANTHROPIC_BASE_URL": BASE_URL,
        "ANTHROPIC_AUTH_TOKEN": phantom,
    }
    kept["CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST"] = "1"
    return kept, tuple(sorted(unwanted & environment.keys()))


def _allowed(layout: Layout) -> frozenset[Allowance]:
    """What the enrolments of this user let through; without one a variable is left out, which harms nothing."""
    return frozenset(each for one in _enrolled(layout) for each in one.allowed_environment)


def _enrolled(layout: Layout) -> tuple[Enrollment, ...]:
    """This user's enrolments; none if they are not for them to read."""
    try:
        enrolled = load_registry(layout.registry_folder)
    except OSError:
        return ()
    return tuple(each for each in enrolled if each.owner_uid == os.getuid())


def _chosen(layout: Layout, agent: str, account: str) -> run_others.Chosen:
    """Ask for an account's phantom first: the broker says it best if there is no such account."""
    phantom = _phantom(layout, "phantom", agent, account)
    held = [each for one in _enrolled(layout) if one.agent == agent for each in one.accounts if each.name == account]
    return run_others.Chosen(phantom, any(is_login(each.credential) for each in held))


def _phantom(layout: Layout, *words: str) -> str:
    """Ask the broker as the agent's own helper would, in the one implementation of that protocol."""
    environment = {} if layout.root == Path("/") else {ENVIRONMENT_VARIABLE: str(layout.root)}
    try:
        answer = subprocess.run(
            [SHIM, *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SHIM_TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        raise UnavailableError(
            f"{SHIM} can't be started: {error.strerror}", next_step="install the package again"
        ) from error
    except subprocess.TimeoutExpired:
        raise UnavailableError("the broker did not answer in time", next_step="agent-broker doctor") from None
    if answer.returncode:
        raise _refusal(answer.returncode, answer.stderr.decode(errors="backslashreplace").strip())
    phantom = answer.stdout.decode("ascii", "replace").strip()
    if not is_phantom(phantom):
        raise AgentBrokerError("the broker's answer is not a phantom", next_step="agent-broker doctor")
    return phantom


def _refusal(exit_code: int, said: str) -> AgentBrokerError:
    """The family that the exit code names, with what the shim said: a sentence, then perhaps what to do."""
    sentence, _, next_step = said.partition("\n")
    sentence = printable(_NAME.sub("", sentence)) or "the broker gave no phantom"
    next_step = printable(next_step.strip())
    if exit_code == RefusedError.exit_code:
        return RefusedError("phantom", sentence, next_step=next_step)
    for family in (MisuseError, UnavailableError, IntegrityError):
        if exit_code == family.exit_code:
            return family(sentence, next_step=next_step)
    return AgentBrokerError(sentence, next_step=next_step)


def _become(command: list[str], environment: Mapping[str, str], path: str = "") -> NoReturn:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and an exec would pass that on
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(path or command[0], command, environment)
    except OSError as error:
        raise MisuseError(f"{printable(command[0])} can't be started: {error.strerror}") from error
