"""Which modules a Node package asks for and does not hold: Node looks for them in folders above it.

An optional dependency that was not installed is enough: what the user plants above the package
(``~/node_modules/NAME``) runs in the agent as if it were its own. The names are found in the package's own words: what
its manifests depend on, what ``require`` and ``import`` are given as literals, and every literal that looks like a
scoped package. A name that is put together while it runs, of neither form, is not found.

Where Node looks: the documentation of its modules, "Loading from node_modules folders" and "Loading from the global
folders"; NODE_PATH taints (identity.environment_table).
"""

import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import Final

from agent_broker.identity.tree import Tree

MAX_WANTED: Final = 4096
_CODE: Final = (b".js", b".cjs", b".mjs")
_MANIFEST: Final = b"package.json"
_DEPENDS: Final = ("dependencies", "optionalDependencies", "peerDependencies")
_NAME: Final = rb"@[\w.~-]+/[\w.~-]+|[\w~-][\w.~-]*"
_IN_CALL: Final = rb"""\s*\(\s*["'`](""" + _NAME + rb""")(?:/[^"'`\n]*)?["'`]"""
_IN_CLAUSE: Final = rb"""\s*["'](""" + _NAME + rb""")(?:/[^"'\n]*)?["']"""
_CALLED: Final = tuple(
    re.compile(pattern)
    for pattern in (
        rb"require\w*" + _IN_CALL,
        rb"import(?<!\wimport)" + _IN_CALL,
        rb"import(?<!\wimport)" + _IN_CLAUSE,
        rb"from(?<!\wfrom)" + _IN_CLAUSE,
        rb"""(@(?<=["'`]@)[a-z0-9._~-]+/[a-z0-9._~-]+)(?:/[^"'`\n]{0,200})?["'`]""",
    )
)
"""Each begins with letters that the search jumps to: ten times as fast over 93 MB as one pattern of all (measured)."""
_VALID: Final = re.compile(_NAME.decode("ascii"), re.ASCII)
_FORMS: Final = ("", ".js", ".json", ".node")
"""What require() takes for a module of a name: a folder, or one of these files."""
_BUILT_IN: Final = frozenset(
    """
    assert async_hooks buffer child_process cluster console constants crypto dgram diagnostics_channel dns domain
    events fs http http2 https inspector module net os path perf_hooks process punycode querystring readline repl
    stream string_decoder sys timers tls trace_events tty url util v8 vm wasi worker_threads zlib
    """.split()  # noqa: SIM905 - a list of words
)
"""``node:module``'s builtinModules (Node 24): never looked for in a folder."""


def wanted_modules(tree: Tree, read: Callable[[bytes], bytes]) -> tuple[str, ...]:
    """Return the names of the modules that a package asks for and does not hold, sorted; at most MAX_WANTED.

    Args:
        tree: of the package.
        read: returns the content of one of its files.

    Raises:
        OSError: a file can't be read.
    """
    held: dict[tuple[bytes, str], bool] = {}
    found: set[str] = set()
    for path in tree.entries:
        folder, _, name = path.rpartition(b"/")
        if stat.S_ISDIR(tree.entries[path].mode) or (name != _MANIFEST and not name.endswith(_CODE)):
            continue  # packages are named "highlight.js" too
        content = read(path)
        for each in _manifest_names(content) if name == _MANIFEST else _called_names(content):
            key = (folder, each)
            if key not in held:
                held[key] = _holds(tree, folder, each)
            if not held[key]:
                found.add(each)
    return tuple(sorted(found)[:MAX_WANTED])


def lookup_folders(root: str, home: str, interpreter: str) -> tuple[str, ...]:
    """Return the folders outside of a package in which Node looks for its modules, whether they are there or not.

    Args:
        root: the package's.
        home: of the user.
        interpreter: the resolved path of the node that runs it.
    """
    above = [str(each / "node_modules") for each in PurePosixPath(root).parents if each.name != "node_modules"]
    beside = str(PurePosixPath(interpreter).parent.parent / "lib/node")
    return tuple(dict.fromkeys((*above, f"{home}/.node_modules", f"{home}/.node_libraries", beside)))


def places_of(folders: Iterable[str], names: Iterable[str]) -> Iterator[str]:
    """Yield every path at which one of these modules would be found in one of these folders."""
    wanted = tuple(names)
    for folder in folders:
        for name in wanted:
            yield from (f"{folder}/{name}{form}" for form in _FORMS)


def _called_names(content: bytes) -> set[str]:
    names = {name.decode("ascii", "replace") for pattern in _CALLED for name in pattern.findall(content)}
    return {name for name in names if _is_module(name)}


def _manifest_names(content: bytes) -> set[str]:
    try:
        manifest = json.loads(content)
    except ValueError:
        return set()
    tables = [manifest.get(key) for key in _DEPENDS] if isinstance(manifest, dict) else []
    return {str(name) for table in tables if isinstance(table, dict) for name in table if _is_module(str(name))}


def _is_module(name: str) -> bool:
    return _VALID.fullmatch(name) is not None and name not in _BUILT_IN and name not in {"..", "node_modules"}


def _holds(tree: Tree, folder: bytes, name: str) -> bool:
    """Tell whether a module is found from one folder of the package without leaving it."""
    parts = folder.split(b"/") if folder else []
    for depth in range(len(parts), -1, -1):
        if depth and parts[depth - 1] == b"node_modules":
            place = b"/".join((*parts[:depth], os.fsencode(name)))
        else:
            place = b"/".join((*parts[:depth], b"node_modules", os.fsencode(name)))
        if any(place + form.encode("ascii") in tree.entries for form in _FORMS):
            return True
    return False
