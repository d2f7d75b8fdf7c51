"""Which images of which agent are its main process: the whole table, one place.

Observed with the CLIs from npm (tests/e2e/test_roles.py repeats it):

* Claude Code 2.1: one process; executes its own binary again as ``rg``.
* Codex 0.169: a script that starts the native binary, on Node 24 in its own process, before that as a child. The
  native binary executes itself as ``codex-linux-sandbox`` and as ``/proc/self/exe``, never as ``codex`` again.
* Gemini CLI 0.61: Node runs the script, which starts the same script again as a child with more memory. The child
  talks to the model; both are the agent: nothing but the environment tells them apart, and both run the same code.
"""

import re
from dataclasses import dataclass

from agent_broker.identity.registry import RoleRule

NODE_OPTIONS = (
    r"--max-old-space-size=[0-9]+",
    r"--no-warnings",
    r"--no-deprecation",
    r"--expose-gc",
    r"--disable-warning=[A-Za-z0-9_]+",
)
"""Options that load no code, change no code's meaning and open no debugger."""

CLAUDE = RoleRule(argv0_names=("claude",), runtimes=("loader", "bun"))
CODEX = RoleRule(argv0_names=("codex",), runtimes=(), refused_arguments=("responses-api-proxy",))
"""Statically linked: no loader reads its environment. The subcommand sends on what others send it."""
GEMINI = RoleRule(argv0_names=("node", "nodejs"), runtimes=("loader", "node"), interpreter_options=NODE_OPTIONS)


@dataclass(frozen=True)
class Interpreter:
    """How a kind of interpreter must be started to run a script and nothing else."""

    runtime: str
    """As identity.environment calls it."""
    names: str
    """A regular expression: base names of its executable."""
    options: tuple[str, ...] = ()
    """See RoleRule.interpreter_options."""
    required: tuple[str, ...] = ()
    """See RoleRule.required_options: without one it loads the user's own code at its start."""
    why_required: str = ""
    example: str = ""
    """Options with which it is not so."""
    has_library: bool = False
    """Whether it loads code of its own from files that no digest covers."""


INTERPRETERS = (
    Interpreter("node", r"node|nodejs", NODE_OPTIONS),
    Interpreter(
        "python",
        r"python[0-9.]*",
        (r"-[BEsuI]+",),
        (r"-[BEsuI]*I[BEsuI]*",),
        "it runs the modules of the user's site-packages at its start",
        "-I",
        has_library=True,
    ),
    Interpreter(
        "ruby",
        r"ruby[0-9.]*",
        (r"--disable[=-]gems",),
        (r"--disable[=-]gems",),
        "it loads the user's own gems before its own",
        "--disable=gems",
        has_library=True,
    ),
    Interpreter("perl", r"perl[0-9.]*", (r"-[wWtTu]+",), has_library=True),
    Interpreter("shell", r"sh|dash|bash|rbash|ksh", (r"-[eufx]+", r"-p")),
    Interpreter("shell", r"zsh", (r"-f",), (r"-f",), "it runs the user's .zshenv at its start", "-f"),
)


def interpreter_of(name: str) -> Interpreter | None:
    """Return how an interpreter with this base name must be started; None: not a known one."""
    return next((each for each in INTERPRETERS if re.fullmatch(each.names, name)), None)


def rule_for(interpreter: Interpreter, argv0: tuple[str, ...], *, isolated: bool = False) -> RoleRule:
    """Return the rule of a script for which no recipe has one.

    Args:
        interpreter: what runs it.
        argv0: as it may be started; one with a slash is compared as a whole.
        isolated: it is installed so that it loads nothing of the user's without being told.
    """
    return RoleRule(
        argv0_names=argv0,
        runtimes=("loader", interpreter.runtime),
        interpreter_options=interpreter.options,
        required_options=() if isolated else interpreter.required,
    )
