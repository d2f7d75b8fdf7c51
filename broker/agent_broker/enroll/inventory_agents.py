"""The programs of AI agents, looked for with the user's rights: where each is, its version, its hash.

A program is found by its name in the folders of the PATH and where installers put it; links are followed, as the shell
would that starts it.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from agent_broker.enroll.inventory_protocol import AgentSighting
from agent_broker.enroll.inventory_walk import TOO_BIG, TOO_MANY, UNREADABLE, Walk
from agent_broker.enroll.vendor import version_of

COMMANDS: dict[str, str] = {
    "claude": "claude",
    "codex": "codex",
    "gemini": "gemini",
    "opencode": "opencode",
    "copilot": "copilot",
    "aider": "aider",
    "cursor-agent": "cursor",
    "amp": "amp",
    "goose": "goose",
    "qwen": "qwen",
    "crush": "crush",
}
"""The name of the program: the agent's."""

_SYSTEM = ("usr/local/bin", "usr/bin", "bin", "opt/*/bin", "snap/bin")
_BELOW_HOME = (
    ".local/bin",
    "bin",
    ".npm-global/bin",
    ".npm-packages/bin",
    ".npm/bin",
    "npm/bin",
    ".bun/bin",
    ".cargo/bin",
    ".volta/bin",
    ".opencode/bin",
    ".local/share/pnpm",
    ".nvm/versions/node/*/bin",
    "node_modules/.bin",
    ".claude/local",
    ".claude/local/node_modules/.bin",
)
_VERSIONS = ((".local/share/claude/versions/*", "claude"),)
"""What native installers keep, older versions too."""
_MAX_PROGRAMS = 200
_MAX_MATCHES = 1000
_CHUNK_BYTES = 1024 * 1024


def programs(walk: Walk) -> Iterator[AgentSighting]:
    """Yield each program once, by the first name that leads to it."""
    seen: set[str] = set()
    hashed_bytes = 0
    for path, agent in _candidates(walk.order.home, walk.order.search_path):
        walk.tick()
        place = os.path.realpath(path)
        if place in seen:
            continue
        seen.add(place)
        try:
            fd = _open(place)
        except OSError:
            continue
        if fd is None:
            continue
        try:
            size = os.fstat(fd).st_size
            hashed_bytes += size
            if len(seen) > _MAX_PROGRAMS:
                walk.missed[TOO_MANY] += 1
                return
            sha256 = "" if hashed_bytes > walk.order.limits.hashed_bytes else _hash(fd, walk)
            walk.missed[TOO_BIG] += not sha256
            head = os.pread(fd, 2, 0)
        except OSError:
            walk.missed[UNREADABLE] += 1
            continue
        finally:
            os.close(fd)
        layout = _layout(place, is_script=head == b"#!")
        yield AgentSighting(agent, os.fsencode(path), os.fsencode(place), version_of(Path(place)), layout, sha256, size)


def _candidates(home: str, search_path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    folders = [*search_path]
    for top, patterns in ((home, _BELOW_HOME), ("/", _SYSTEM)):
        for pattern in patterns:
            folders += _matching(top, pattern) if "*" in pattern else [str(Path(top, pattern))]
    for folder in dict.fromkeys(folders):
        for command, agent in COMMANDS.items():
            yield f"{folder}/{command}", agent
    for pattern, agent in _VERSIONS:
        for path in _matching(home, pattern):
            yield path, agent


def _matching(top: str, pattern: str) -> list[str]:
    """Return what matches below a folder, the newest version first; of more than _MAX_MATCHES, any of them."""
    found = [str(path) for path in islice(Path(top).glob(pattern), _MAX_MATCHES)]
    return sorted(found, key=lambda path: [int(digits) for digits in re.findall("[0-9]{1,9}", path)], reverse=True)


def _open(place: str) -> int | None:
    """Open a regular executable file; None: it is none."""
    look = os.open(place, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        facts = os.fstat(look)
        if not stat.S_ISREG(facts.st_mode) or not facts.st_mode & 0o111:
            return None
    finally:
        os.close(look)
    return os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)


def _hash(fd: int, walk: Walk) -> str:
    digest = hashlib.sha256()
    while chunk := os.read(fd, _CHUNK_BYTES):
        digest.update(chunk)
        walk.tick()
    return digest.hexdigest()


def _layout(place: str, *, is_script: bool) -> str:
    if "/node_modules/" in place:
        return "npm"
    return "script" if is_script else "native"
