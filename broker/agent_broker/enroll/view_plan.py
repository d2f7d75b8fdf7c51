"""What enrolling a file as a view would do, without doing it: read-only, and without a secret in the plan.

A file that is a view is a link into a folder of the broker's (view). What writes it must go through the link: in
place, or with a temporary file beside the link's *target*. Programs that replace the link itself are refused here by
name, since their next write would leave the new secret in a plain file.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_broker.enroll import curl, gh, git
from agent_broker.enroll.file_state import Expected
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.plan import version_of
from agent_broker.enroll.program import find_program
from agent_broker.enroll.tool_plan import package_of
from agent_broker.enroll.user_files import Content, UserFiles
from agent_broker.errors import MisuseError
from agent_broker.honeytoken.file_likeness import decoy_of_file
from agent_broker.identity.planted import PlantedDecoy
from agent_broker.identity.registry import EnrolledBinary, Enrollment, RoleRule, Serving
from agent_broker.identity.viewed import PREFIX, ViewedFile
from agent_broker.ids import AgentName

MAX_BYTES: Final = 1024 * 1024
_NAME_CHARS = 50
PROGRAM_PREFIX: Final = "reader."
"""Of the names of programs that are enrolled as readers only."""
_REPLACED: Final = {
    ".claude/.credentials.json": (
        "Claude Code replaces a link there by a plain file, with the new refresh token in it, at its next refresh",
        "move its login another way: agent-broker enroll claude",
    ),
    ".docker/config.json": (
        "docker writes its new file beside the link and can't move it to another file system",
        "move its passwords another way: agent-broker enroll docker",
    ),
}
_PRINTS: Final = {"aws": ("configure", "export-credentials")}
"""Words that make a program print what the file holds; gh's are in enroll.gh, curl's in enroll.curl."""
_NETRC: Final = ".netrc"
_READ_NETRC: Final = ("git", "keyring")
"""Tools that ask through a shim, and read this file beside it, before they ask: git, pip, uv, twine."""


@dataclass(frozen=True)
class ViewPlan:
    """What a person is asked to agree to."""

    viewed: ViewedFile
    owner: Owner
    version: Expected
    target: str
    programs: tuple[Enrollment, ...]
    """Those that are enrolled with it, since they were not."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """What is enrolled already."""

    agents: tuple[Enrollment, ...]
    tools: tuple[Enrollment, ...]
    files: tuple[ViewedFile, ...]
    planted: tuple[PlantedDecoy, ...]


def make_view_plan(  # noqa: PLR0913 - what the operator can say, named arguments only
    path: Path,
    owner: Owner,
    *,
    readers: Iterable[str],
    known: Known,
    view_folder: Path,
    now_ns: int,
    search_path: Iterable[Path] = (),
) -> ViewPlan:
    """Look at everything, change nothing.

    Args:
        path: the file, in the owner's home.
        owner: whose it is.
        readers: names of enrolled agents and tools, or paths of programs.
        known: what is enrolled.
        view_folder: where views are.
        now_ns: CLOCK_REALTIME.
        search_path: for interpreters of scripts.

    Raises:
        MisuseError: it can't be: another path, a program that replaces links, no such reader, nothing to hide.
        UnsafeFileError: the file may not be touched.
    """
    relative = relative_to_home(path, owner)
    _require_free(relative, owner, known)
    names, programs = _readers(tuple(readers), relative, owner, known, tuple(search_path), now_ns)
    with UserFiles(owner) as files:
        content = files.read(relative)
        if content is None:
            raise MisuseError(f"{files.absolute(relative)} does not exist", next_step="log in with the program first")
        _, values = decoy_of_file(content.data)
        files.rehearse(relative, len(content.data), owner.gid)
        warnings = gh.socket_warnings(files) if relative == str(gh.HOSTS) else ()
    if len(content.data) > MAX_BYTES:
        raise MisuseError(f"{path} is longer than {MAX_BYTES} bytes", next_step="only small files can be views")
    viewed = ViewedFile(
        name=name_of(relative),
        owner_uid=owner.uid,
        owner_gid=owner.gid,
        owner_name=owner.name,
        home=owner.home,
        path=relative,
        readers=names,
        programs=tuple(each.agent for each in programs),
        enrolled_ns=now_ns,
    )
    told = f"{len(values)} values in it look like secrets: everybody but {', '.join(names)} reads others there"
    return ViewPlan(viewed, owner, _version(content), viewed.target(view_folder), programs, (told, *warnings))


def _version(content: Content) -> Expected:
    version = version_of(content)
    if version is None:  # only a missing file has none
        raise MisuseError("the file is gone")
    return version


def relative_to_home(path: Path, owner: Owner) -> str:
    """Return a path below the home.

    Raises:
        MisuseError: it is elsewhere, or has a name that can't be shown.
    """
    absolute = os.path.normpath(os.path.join(owner.home, path))  # noqa: PTH118 - an absolute one stays
    home = owner.home.rstrip("/") + "/"
    if not absolute.startswith(home):
        raise MisuseError(f"{path} is not in the home of {owner.name}", next_step="check --user")
    relative = absolute.removeprefix(home)
    if not relative.isprintable() or not relative.isascii():
        raise MisuseError("the file's name has characters that can't be shown", next_step="rename it")
    return relative


def name_of(relative: str) -> AgentName:
    """Return the name by which policy, vault and journal know a file: of its path, made unique by a digest if cut."""
    plain = re.sub(r"[^a-z0-9._-]", ".", relative.lower().replace("/", ".")).strip(".")
    digest = hashlib.sha256(relative.encode()).hexdigest()[:8]
    exact = plain == relative.strip(".") and len(plain) <= _NAME_CHARS
    return AgentName(PREFIX + (plain if exact else f"{plain[:_NAME_CHARS].strip('.')}-{digest}"))


def _require_free(relative: str, owner: Owner, known: Known) -> None:
    if relative in _REPLACED:
        reason, step = _REPLACED[relative]
        raise MisuseError(f"~/{relative} can't be a view: {reason}", next_step=step)
    for viewed in known.files:
        if (viewed.owner_uid, viewed.path) == (owner.uid, relative):
            raise MisuseError(
                f"{viewed.absolute} is a view already",
                next_step=f"to enroll it anew: unenroll --file {viewed.absolute}",
            )
    absolute = f"{owner.home.rstrip('/')}/{relative}"
    decoys = [decoy.path for each in (*known.agents, *known.tools) for decoy in each.decoys]
    if absolute in (*decoys, *(decoy.path for decoy in known.planted)):
        raise MisuseError(f"{absolute} holds a decoy of an enrolment", next_step="there is no secret in it any more")


def _readers(  # noqa: PLR0913, PLR0917 - what a plan is made of
    wanted: tuple[str, ...], relative: str, owner: Owner, known: Known, search_path: tuple[Path, ...], now_ns: int
) -> tuple[tuple[AgentName, ...], tuple[Enrollment, ...]]:
    """Return the readers' names, and the programs among them that are to be enrolled."""
    if not wanted:
        raise MisuseError("nobody would read the file", next_step="name who may: --for codex, --for /usr/bin/npm")
    names: dict[AgentName, None] = {}
    programs: list[Enrollment] = []
    for each in wanted:
        if "/" in each:
            program = _program(Path(each), relative, owner, known, search_path, now_ns)
            names[program.agent] = None
            if program not in known.tools and program.agent not in [made.agent for made in programs]:
                programs.append(program)
        else:
            names[_enrolled(each, owner, known, relative)] = None
    return tuple(names), tuple(programs)


def _enrolled(name: str, owner: Owner, known: Known, relative: str) -> AgentName:
    for enrollment in (*known.agents, *known.tools):
        if (enrollment.agent, enrollment.owner_uid) == (name, owner.uid):
            if not _may_read(enrollment, relative):
                raise MisuseError(f"{name} asks through a shim: it has no need of the file", next_step="name another")
            return enrollment.agent
    raise MisuseError(
        f"{name} of user {owner.name} is not enrolled", next_step="enroll it first, or name a program by its path"
    )


def _may_read(tool: Enrollment, relative: str) -> bool:
    """Tell whether a tool has a use for the file: one that asks through a shim has none, or just for netrc."""
    asks = tool.serving is not None and bool(tool.serving.shim)
    return not asks or (relative == _NETRC and tool.agent in _READ_NETRC)


def _program(  # noqa: PLR0913, PLR0917 - what a plan is made of
    path: Path, relative: str, owner: Owner, known: Known, search_path: tuple[Path, ...], now_ns: int
) -> Enrollment:
    """Return the enrolment of a program: the one that there is, or a new one."""
    found = find_program(path, owner, search_path)
    binary = package_of(found.found).enrolled
    script = None if binary.script is None else binary.script.path
    for each in known.tools:
        same = [
            one.path == binary.path and (one.script.path if one.script else None) == script for one in each.binaries
        ]
        if each.owner_uid == owner.uid and any(same):
            if not _may_read(each, relative):
                raise MisuseError(f"{path} is enrolled as {each.agent}, which asks through a shim")
            return each
    base = path.name
    if script is None and (special := _special_role(base, relative, owner)):
        return _reader(base, owner, binary, special, now_ns)
    role = found.role or found.found.role or RoleRule(argv0_names=(base,), runtimes=("loader", "git-http"))
    role = RoleRule(
        argv0_names=role.argv0_names,
        runtimes=role.runtimes,
        interpreter_options=role.interpreter_options,
        required_options=role.required_options,
        refused_arguments=(*role.refused_arguments, *_PRINTS.get(base, ())),
        leading_options=role.leading_options,
    )
    return _reader(base, owner, binary, role, now_ns)


def _special_role(base: str, relative: str, owner: Owner) -> RoleRule | None:
    """Return the role of a program that is known by its name; None: it has none of its own."""
    if base == gh.TOOL:
        return gh.role_for(owner.home)
    if base == curl.TOOL and relative == _NETRC:
        return curl.role_for(owner.home)
    if base == curl.TOOL:
        raise MisuseError(
            "curl prints and sends whatever file it is told to", next_step="only ~/.netrc can be for curl"
        )
    if base == git.TOOL or base in git.ROLE.argv0_names:
        raise MisuseError(f"{base} is not enrolled", next_step="agent-broker enroll git, then name it: --for git")
    return None


def _reader(base: str, owner: Owner, binary: EnrolledBinary, role: RoleRule, now_ns: int) -> Enrollment:
    name = AgentName(PROGRAM_PREFIX + re.sub(r"[^a-z0-9._-]", "-", base.lower())[:_NAME_CHARS])
    return Enrollment(name, owner.uid, owner.name, (binary,), role, (), (), now_ns, serving=Serving(""))
