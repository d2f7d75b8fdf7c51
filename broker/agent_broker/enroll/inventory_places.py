"""Where credentials lie in a home: the catalogue's paths, agents' settings, shell profiles, session files, projects."""

import os
from collections.abc import Iterator
from pathlib import PurePosixPath

import msgspec

from agent_broker.enroll.inventory_files import lines, settings
from agent_broker.enroll.inventory_protocol import Readers, Sighting, Source, State
from agent_broker.enroll.inventory_session import session_items
from agent_broker.enroll.inventory_values import PHANTOM, agents_of, state_of_content
from agent_broker.enroll.inventory_walk import TOO_MANY, Looked, Walk
from agent_broker.ids import Uid
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.pattern import EVERYTHING_BELOW, Wanted, tree_of
from agent_broker.monitor.pattern import State as PatternState

SETTINGS: tuple[tuple[str, str, str], ...] = (
    (".claude/settings.json", "json", "claude"),
    (".claude/settings.local.json", "json", "claude"),
    (".claude.json", "json", "claude"),
    (".codex/config.toml", "toml", "codex"),
    (".gemini/settings.json", "json", "gemini"),
    (".config/opencode/opencode.json", "json", "opencode"),
    (".aider.conf.yml", "lines", "aider"),
    (".cursor/mcp.json", "json", "cursor"),
    (".copilot/mcp-config.json", "json", "copilot"),
)
"""Path, form, whose."""

BY_VARIABLE = (".codex/.env",)
"""Files of the catalogue's that are told by the variables in them, where they may be opened."""

_COPIES = ((".claude/backups", ".claude.json.backup", "claude"), ("", ".claude.json.", "claude"))
"""Folder, beginning of the name: what Claude keeps of its configuration."""

PROFILES = (
    ".profile",
    ".bash_profile",
    ".bash_login",
    ".bashrc",
    ".bash_aliases",
    ".zshenv",
    ".zprofile",
    ".zshrc",
    ".zlogin",
    ".kshrc",
    ".cshrc",
    ".tcshrc",
    ".login",
    ".xprofile",
    ".xsessionrc",
    ".pam_environment",
    ".config/fish/config.fish",
)
_LINE_FOLDERS: tuple[tuple[str, str, Source], ...] = (
    (".config/fish/conf.d", ".fish", "profile"),
    (".bashrc.d", "", "profile"),
    (".config/zsh", "", "profile"),
    (".config/environment.d", ".conf", "environment.d"),
)
"""Folder, end of the name, what reads it."""

_LEFT_OUT = frozenset({"node_modules", "__pycache__", "site-packages", "venv", "target", "vendor", "snap", "go"})
_PROJECT_FOLDERS = frozenset({".claude", ".gemini", ".codex", ".cursor", ".vscode"})
"""Hidden folders of a project that hold an agent's settings."""
_EXAMPLES = (".example", ".sample", ".template", ".dist", ".schema", ".defaults", ".tmpl")
_PROJECT_SETTINGS = frozenset({"settings.json", "settings.local.json", ".mcp.json", "mcp.json"})
_HISTORY = "shell-history"


def everything(walk: Walk) -> None:
    """Tell all that is found, the likeliest first."""
    _catalogue(walk)
    for path, form, agent in SETTINGS:
        settings(walk, path, form, (agent,))
    for folder, begins, agent in _COPIES:
        for path in walk.files_of(folder):
            if path.rpartition("/")[2].startswith(begins) and not path.endswith((".lock", ".tmp")):
                settings(walk, path, "json", (agent,))
    for path in PROFILES:
        lines(walk, walk.linked(path), "profile")
    for folder, ends, source in _LINE_FOLDERS:
        for path in walk.files_of(folder):
            if path.endswith(ends):
                lines(walk, path, source)
    for path in BY_VARIABLE:
        lines(walk, path, "env-file")
    _projects(walk)


def session(walk: Walk) -> None:
    """Tell what the session's manager hands to every unit; the place that is named is the bus, which it answers on."""
    for item in session_items(walk.order.bus, walk.order.phantom_prefix) if walk.order.bus else ():
        seen = Sighting(
            path=os.fsencode(walk.order.bus),
            holds=item.kind,
            state="phantom" if item.kind == PHANTOM else "plain",
            mode=0o600,
            uid=walk.order.uid,
            gid=0,
            mtime_ns=0,
            readers=Readers(),
            name=item.name,
            agents=agents_of(item.variable, item.kind),
            source="session",
        )
        walk.emit(seen)


# -- the catalogue ---------------------------------------------------------------------------------------------------


class _Pattern(msgspec.Struct, frozen=True):
    pattern: str
    holds: str
    agents: tuple[str, ...]


def _catalogue(walk: Walk) -> None:
    patterns = {f"/{pattern}": _Pattern(pattern, holds, agents) for pattern, holds, agents, _ in walk.order.patterns}
    owner = Uid(walk.order.uid)
    wanted = [
        Wanted(
            f"/{pattern}", Mark(f"/{pattern}", None, owner, deny=False, role="credential", kind=holds), but_not=but_not
        )
        for pattern, holds, _, but_not in walk.order.patterns
    ]
    together: dict[str, Sighting] = {}
    for path, found in _matching(walk, tree_of(wanted), ""):
        pattern = patterns[found.pattern]
        with walk.look(path) as looked:
            if looked is None or (path in BY_VARIABLE and _may_open(walk, looked)) or not walk.first_visit(path):
                continue
            sighting = _in_catalogue(walk, looked, pattern)
        if pattern.pattern.endswith(EVERYTHING_BELOW):
            _add(together, sighting, pattern, walk.order.home)
        else:
            walk.emit(sighting)
    for sighting in together.values():
        walk.emit(sighting)


def _matching(walk: Walk, state: PatternState, folder: str) -> Iterator[tuple[str, Wanted]]:
    """Yield the paths that match, each folder entered once; a list of its own, since a user may nest without end."""
    pending = [(folder, state, 0)]
    while pending:
        folder, state, depth = pending.pop()
        names = dict.fromkeys(state.names)
        if state.must_list:
            names |= dict.fromkeys(name for name, _ in walk.list_folder(folder))
        for name in names:
            walk.tick()
            below = state.step(name)
            if not below:
                continue
            path = f"{folder}/{name}" if folder else name
            found = below.wanted_as(name)
            if found is not None:
                yield path, found
            if below.leads_on and depth < walk.order.limits.depth:
                pending.append((path, below, depth + 1))


def _in_catalogue(walk: Walk, looked: Looked, pattern: _Pattern) -> Sighting:
    if walk.is_decoy(looked):
        return walk.sighting(looked, pattern.holds, "unopened", agents=pattern.agents, opened=False)
    # The place of a file says what it holds, as long as no decoy can be there that the caller does not know of.
    by_place: State = "unopened" if walk.order.hidden_decoys or pattern.holds == _HISTORY else "plain"
    data = walk.read(looked) if _may_open(walk, looked) else None
    if data is None:
        return walk.sighting(looked, pattern.holds, by_place, agents=pattern.agents, opened=False)
    state = state_of_content(data, looked.name, walk.order.phantom_prefix)
    return walk.sighting(looked, pattern.holds, state, agents=pattern.agents)


def _may_open(walk: Walk, looked: Looked) -> bool:
    """Whether to open a file of the catalogue's raises no alert."""
    return not (walk.order.watched or walk.order.hidden_decoys or walk.is_decoy(looked))


_WORST: tuple[State, ...] = ("plain", "unopened", "unrecognised", "encrypted", "phantom")


def _add(together: dict[str, Sighting], sighting: Sighting, pattern: _Pattern, home: str) -> None:
    """Join the files of a whole folder: password stores and tools' own databases have thousands."""
    before = together.get(pattern.pattern)
    folder = os.fsencode(f"{home.rstrip('/')}/{pattern.pattern.removesuffix(EVERYTHING_BELOW)}")
    if before is None:
        together[pattern.pattern] = msgspec.structs.replace(sighting, path=folder)
        return
    ours, theirs = before.readers, sighting.readers
    more_exposed = (theirs.everybody, len(theirs.groups) + len(theirs.users)) > (
        ours.everybody,
        len(ours.groups) + len(ours.users),
    )
    shown = sighting if more_exposed else before
    together[pattern.pattern] = msgspec.structs.replace(
        shown,
        path=folder,
        files=before.files + 1,
        mtime_ns=min(before.mtime_ns, sighting.mtime_ns),
        state=min(before.state, sighting.state, key=_WORST.index),
        opened=before.opened and sighting.opened,
    )


# -- projects --------------------------------------------------------------------------------------------------------


def _projects(walk: Walk) -> None:
    for folder, names in walk.folders_first(_is_left_out):
        for name in names:
            path = f"{folder}/{name}" if folder else name
            if name == ".envrc":
                lines(walk, path, "direnv")
            elif _is_env_file(name):
                lines(walk, path, "env-file")
            elif name in _PROJECT_SETTINGS and (name.startswith(".") or PurePosixPath(folder).name in _PROJECT_FOLDERS):
                settings(walk, path, "json", ())


def _is_left_out(folder: str, name: str) -> bool:
    """Whether no project's own file is expected below: hidden folders, and what tools install or build."""
    if name in _LEFT_OUT and (folder or name in {"node_modules", "__pycache__", "venv", "snap", "go"}):
        return True
    return name.startswith(".") and name not in _PROJECT_FOLDERS


def _is_env_file(name: str) -> bool:
    is_one = name == ".env" or name.startswith(".env.") or name.endswith(".env")
    return is_one and not name.endswith((*_EXAMPLES, ".swp", "~"))


__all__ = ["BY_VARIABLE", "PROFILES", "SETTINGS", "TOO_MANY", "everything", "session"]
