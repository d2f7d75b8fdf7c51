"""Variables that make a genuine binary run foreign code: judged at exec, from what the kernel captured.

A matching hash says which file was mapped, not which code runs: ``LD_PRELOAD=x.so claude`` and
``BUN_OPTIONS=--preload=x.js claude`` run x in the genuine binary. So a registered image whose environment at
exec names one of these is tainted: it gets no secret, and the message names the variable (never its value).

One table, a row a family: who reads it, the pattern of the names, and why. A variable counts only for the
runtimes that read it: PYTHONPATH changes no compiled agent, and is in half the developers' profiles. An empty
value counts too: some readers treat it as set, and nobody needs it.
"""

import re
from collections.abc import Iterable

from msgspec import Struct

_MAX_NAMED = 5  # a taint sentence names at most so many variables

LOADER = "loader"  # every dynamically linked program
ENROLLED_RUNTIMES = frozenset({LOADER, "bun", "node"})
"""The runtimes of the agents that can be enrolled (Claude Code: a dynamically linked Bun executable)."""


class Family(Struct, frozen=True):
    """One row of the table."""

    runtime: str
    names: str
    """A regular expression, matched against the whole name."""
    why: str


FAMILIES = (
    Family(LOADER, r"LD_[A-Z_0-9]*", "the dynamic loader loads or redirects libraries (ld.so(8))"),
    Family(LOADER, r"GCONV_PATH|LOCPATH|GETCONF_DIR", "glibc loads conversion modules or locale data (iconv(3))"),
    Family(LOADER, r"GLIBC_TUNABLES", "glibc changes the behaviour of the loader and the allocator"),
    Family(
        LOADER, r"OPENSSL_CONF|OPENSSL_MODULES|OPENSSL_ENGINES", "OpenSSL loads providers or engines (openssl-env(7))"
    ),
    Family(LOADER, r"GIO_EXTRA_MODULES|GTK_MODULES|QT_PLUGIN_PATH|SASL_PATH", "a library loads plug-ins"),
    Family("bun", r"BUN_[A-Z_0-9]*", "the Bun runtime preloads scripts or becomes another program"),
    Family("node", r"NODE_OPTIONS|NODE_PATH|NODE_REPL_EXTERNAL_MODULE", "the Node runtime loads other code"),
    Family("node", r"ELECTRON_RUN_AS_NODE", "an Electron program runs other code"),
    Family("python", r"PYTHON[A-Z_0-9]*", "the Python runtime loads modules or start-up code"),
    Family("ruby", r"RUBYOPT|RUBYLIB|GEM_PATH|GEM_HOME|BUNDLE_GEMFILE", "the Ruby runtime loads code"),
    Family("perl", r"PERL5OPT|PERL5LIB|PERL5DB|PERLLIB", "the Perl runtime loads code"),
    Family(
        "java", r"JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|JDK_JAVA_OPTIONS|CLASSPATH", "the Java runtime loads other classes"
    ),
    Family("dotnet", r"DOTNET_STARTUP_HOOKS|CORECLR_[A-Z_0-9]*|COR_[A-Z_0-9]*", "the .NET runtime loads assemblies"),
    Family("shell", r"BASH_ENV|ENV|BASH_FUNC_.*|SHELLOPTS|BASHOPTS|PS4|ZDOTDIR", "a shell runs code at its start"),
)
ALL_RUNTIMES = frozenset(family.runtime for family in FAMILIES)

_PATTERN = re.compile("|".join(f"(?P<f{number}>{family.names})" for number, family in enumerate(FAMILIES)))


class Finding(Struct, frozen=True):
    """One variable that taints."""

    name: str
    why: str


def injecting_names(
    names: Iterable[str], *, runtimes: frozenset[str] = ENROLLED_RUNTIMES, allowed: frozenset[str] = frozenset()
) -> tuple[Finding, ...]:
    """Return the variables that make a program of these runtimes run foreign code, in the order given.

    Args:
        names: names of environment variables, as at exec.
        runtimes: which readers matter.
        allowed: names that are let through, because the user's own set-up needs them.
    """
    found = []
    for name in names:
        match = _PATTERN.fullmatch(name)
        if match is None or name in allowed:
            continue
        family = FAMILIES[int(str(match.lastgroup)[1:])]
        if family.runtime in runtimes:
            found.append(Finding(name, family.why))
    return tuple(found)


def judge_strings(_arguments: bytes, environment: bytes) -> tuple[str, ...]:
    """Return the taints in a registered image's strings, as captured at exec; values are never repeated.

    An entry without "=" names no variable, but shows that somebody built the block by hand: it taints.
    """
    entries = [entry for entry in environment.split(b"\0") if entry]
    names = [entry.partition(b"=")[0].decode("utf-8", "backslashreplace") for entry in entries]
    taints = [f"its environment sets {each.name}: {each.why}" for each in injecting_names(names)[:_MAX_NAMED]]
    if any(b"=" not in entry for entry in entries):
        taints.append("its environment has an entry without a name")
    return tuple(taints)
