"""Secrets that ``run --with`` gives to programs: the launcher as the tool ``run``, its rules, and which programs may.

No file of the user's is touched here: such a secret is typed, or piped, and lies in the vault alone.
"""

import os
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from agent_broker.disk import require_root_owned
from agent_broker.enroll.binaries import examine, may_replace
from agent_broker.enroll.file_state import sha256_of
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.policy_file import policy_path, remove_policy, write_policy
from agent_broker.enroll.ports import Site
from agent_broker.enroll.tool_plan import first_rules
from agent_broker.errors import MisuseError
from agent_broker.identity.command import command_of, interpreter_path
from agent_broker.identity.distribution import Distribution
from agent_broker.identity.environment_table import PROGRAMS_RUNTIMES
from agent_broker.identity.executable import hash_open_file
from agent_broker.identity.registry import (
    Enrollment,
    RoleRule,
    Serving,
    load_registry,
    remove_enrollment,
    save_enrollment,
)
from agent_broker.ids import AgentName
from agent_broker.monitor.fingerprint import facts_by_stat
from agent_broker.vault.launched import TOOL, Delivery, Launched

RUN: Final = AgentName(TOOL)
SEARCHED: Final = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
"""Where a program is looked for that is named without its path: only root writes there."""
_PRESETS: Final = Path(__file__).with_name("launch_presets.toml")
ROLE: Final = RoleRule(argv0_names=("agent-broker-run",), runtimes=PROGRAMS_RUNTIMES)
"""The launcher hands its environment on, so it is judged by all that any program would be taken over by."""


class Preset(Struct, frozen=True, forbid_unknown_fields=True):
    """How programs of one kind take a secret. ``{host}`` and ``{login}`` stand for what the person says."""

    what: str
    programs: tuple[str, ...]
    variable: str = ""
    option: str = ""
    file: str = ""

    def delivery(self, host: str, login: str) -> Delivery:
        """Return it for a host and a user's name there.

        Raises:
            MisuseError: one of them is needed and was not given.
        """
        made = []
        for text in (self.variable, self.option, self.file):
            for mark, value, option in (("{host}", host, "--host"), ("{login}", login, "--login")):
                if mark in text and (not value or not value.isprintable() or " " in value):
                    raise MisuseError(f"this preset needs {option}")
                text = text.replace(mark, value)  # noqa: PLW2901 - one mark after the other
            made.append(text)
        return Delivery(*made)


def presets() -> Mapping[str, Preset]:
    """Return the shipped presets by name."""
    return msgspec.convert(tomllib.loads(_PRESETS.read_text("utf-8")), type=dict[str, Preset])


def programs_named(names: Iterable[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the paths of programs, and the hashes of those files that no package owns.

    Raises:
        MisuseError: one is not installed.
        RefusedError: one can't be given a secret: see identity.command.
    """
    packages = Distribution()
    paths: list[str] = []
    hashes: dict[str, str] = {}
    for name in names:
        found = name if name.startswith("/") else shutil.which(name, path=SEARCHED)
        path = os.path.realpath(found) if found is not None else ""
        if not os.path.isfile(path):  # noqa: PTH113 - a name
            raise MisuseError(f"there is no program {name!r} in {SEARCHED}", next_step="name it by its whole path")
        paths.append(path)
        for file in (path, interpreter_path(path)):
            if file and (sha256 := _hash_to_name(file, packages)):
                hashes[file] = sha256
        command_of(path, hashes, packages)
    return tuple(dict.fromkeys(paths)), hashes


def enroll_launcher(site: Site, owner: Owner, launcher: Path) -> None:
    """Make the launcher the user's tool ``run``, with rules if there are none; repeated, it is up to date.

    Raises:
        MisuseError: others than root could replace it.
        UnavailableError: the disk refuses.
    """
    require_root_owned(launcher, launcher.lstat())
    if os.path.realpath(launcher) != str(launcher) or may_replace(launcher, owner) or site.tools_dir is None:
        raise MisuseError(f"{launcher} could be replaced by others than root", next_step="install the package for root")
    binary = examine(launcher, owner).enrolled
    enrollment = Enrollment(
        agent=RUN,
        owner_uid=owner.uid,
        owner_name=owner.name,
        binaries=(binary,),
        role=ROLE,
        decoys=(),
        credentials=(),
        enrolled_ns=site.clock.wall_ns(),
        serving=Serving(""),
    )
    path = policy_path(site.policy_dir, RUN, owner.uid)
    if not path.exists():
        write_policy(path, rules_of(owner))
    site.tools_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    save_enrollment(site.tools_dir, enrollment)


def forget_launcher(site: Site, owner: Owner) -> str:
    """Take it back once no secret is left; return a sentence if rules stay."""
    for each in () if site.tools_dir is None else load_registry(site.tools_dir):
        if (each.agent, each.owner_uid) == (RUN, owner.uid) and site.tools_dir is not None:
            remove_enrollment(site.tools_dir, each)
    return remove_policy(policy_path(site.policy_dir, RUN, owner.uid), sha256_of(rules_of(owner)))


def rules_of(owner: Owner) -> bytes:
    """Return the rules that are written with the first secret."""
    return first_rules(RUN, owner, ("NAME", ""))


def launched(deliveries: Iterable[Delivery], names: Iterable[str]) -> Launched:
    """Return what a record says of a secret for these programs. Raises as ``programs_named``."""
    paths, hashes = programs_named(names)
    return Launched(tuple(deliveries), paths, hashes)


def _hash_to_name(path: str, packages: Distribution) -> str:
    """Return the hash of a file that no intact package owns; empty: one does."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        owner = packages.owner_of(path, facts_by_stat(fd))
        return "" if owner is not None and owner.intact else hash_open_file(fd)
    finally:
        os.close(fd)
