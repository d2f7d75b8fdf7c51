"""What enrolling a tool (git, docker) adds to a plan: whose package it is, how it asks, and the first rules."""

import dataclasses
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from agent_broker.enroll.binaries import FoundBinary, may_replace
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.plan import Plan, ToolPart, make_plan
from agent_broker.enroll.recipe import Recipe
from agent_broker.errors import MisuseError
from agent_broker.identity.distribution import Distribution
from agent_broker.identity.environment import allow
from agent_broker.identity.planted import PlantedDecoy
from agent_broker.identity.registry import RoleRule, Serving
from agent_broker.ids import AgentName
from agent_broker.monitor.fingerprint import facts_by_stat


class ToolRecipe(Recipe, Protocol):
    """One kind of tool."""

    @property
    def commands(self) -> tuple[str, ...]:
        """What a shell may be given between the tool and the shim; none: there is no shell."""
        ...

    def sets(self, program: Path) -> dict[str, str]:
        """Return what the tool puts into the environment of its own part, this program."""
        ...

    @property
    def example(self) -> tuple[str, str]:
        """A credential's name and a place where an agent may use it, for the comment in the first rules."""
        ...


class StartsItsHelper:
    """What recipes of tools say that start their helper themselves: no shell is between, and they set no variable."""

    @property
    def commands(self) -> tuple[str, ...]:
        """See ToolRecipe."""
        return ()

    def sets(self, program: Path) -> dict[str, str]:
        """See ToolRecipe."""
        del program
        return {}

    def executable_of(self, named: Path) -> Path:
        """See Recipe."""
        return named


@runtime_checkable
class AsksItself(Protocol):
    """A tool that speaks to the broker without a shim."""

    def programs_with(self, named: tuple[Path, ...]) -> tuple[Path, ...]:
        """Return what is enrolled if the operator names these: them, with or without its own; for none, its own."""
        ...


@runtime_checkable
class HasPrograms(Protocol):
    """A tool that may be several programs, all of which are enrolled if the operator names none (keyring, kubectl)."""

    def all_programs(self, owner: Owner, search_path: Iterable[Path]) -> tuple[Path, ...]:
        """Return those that are installed; none: it is the one that is found."""
        ...


@runtime_checkable
class HasHome(Protocol):
    """A tool that is another program with another HOME: it finds there whom it gives what it is given."""

    def role_for(self, owner: Owner) -> RoleRule:
        """Return the recipe's role, with the owner's home."""
        ...


def make_tool_plan(  # noqa: PLR0913 - as make_plan
    recipe: ToolRecipe,
    owner: Owner,
    *,
    shim: Path,
    tools_dir: Path,
    binaries: Iterable[Path] = (),
    search_path: Iterable[Path] = (),
    allow_env: Iterable[str] = (),
    planted: Iterable[PlantedDecoy] = (),
) -> Plan:
    """Look at everything, change nothing: see make_plan for the arguments and what is raised.

    Raises:
        MisuseError: others than root could replace the shim.
    """
    serving = Serving("") if isinstance(recipe, AsksItself) else Serving(str(shim), recipe.commands)
    if serving.shim:
        _require_roots(shim, owner)
    if isinstance(recipe, AsksItself):
        binaries = recipe.programs_with(tuple(binaries))
    if isinstance(recipe, HasPrograms):
        binaries = tuple(binaries) or recipe.all_programs(owner, tuple(search_path))
    plan = make_plan(
        recipe,
        owner,
        registry_dir=tools_dir,
        binaries=binaries,
        search_path=search_path,
        allow_env=allow_env,
        planted=planted,
    )
    packages = Distribution()
    own = (pair for each in plan.binaries for pair in recipe.sets(Path(each.enrolled.path)).items())
    allowed = tuple(allow(name.encode(), value.encode()) for name, value in own)
    rules = first_rules(recipe.agent, owner, recipe.example)
    role = _role_with(recipe.role, plan.binaries)
    return dataclasses.replace(
        plan,
        binaries=tuple(package_of(each, packages) for each in plan.binaries),
        tool=ToolPart(serving, rules, allowed, recipe.role_for(owner) if isinstance(recipe, HasHome) else role),
    )


def first_rules(tool: AgentName, owner: Owner, example: tuple[str, str]) -> bytes:
    """Return the rules that an enrolment writes: the owner's own programs go on, agents get nothing."""
    name, place = example
    to = f'# to = "{place}"\n' if place else ""
    return (
        f"# Written by: agent-broker enroll {tool} --user {owner.name}. Deleted by unenroll, unless edited.\n"
        f'# What you start yourself may use what {tool} had. With session = "terminal": only what you type there.\n'
        "[[rule]]\n"
        'session = "user"\n'
        f'credential = "{tool}/{owner.uid}/*"\n'
        "\n"
        f"# Agents may use none of it. One may use this and nothing else, in a file of your own beside this one:\n"
        "# [[rule]]\n"
        '# agent = "claude"\n'
        f'# credential = "{tool}/{owner.uid}/{name}"\n'
        f"{to}"
    ).encode()


def names_for(hosts: Iterable[str]) -> list[str]:
    """Return a name in the vault for each of these, in their order, none twice."""
    taken: dict[str, int] = {}
    names = []
    for host in hosts:
        plain = "".join(char if (char.isalnum() and char.isascii()) or char in "._-" else "-" for char in host)
        name = plain.strip("._-")[:56] or "server"
        taken[name] = taken.get(name, 0) + 1
        names.append(name if taken[name] == 1 else f"{name}-{taken[name]}")
    return names


def _role_with(role: RoleRule, binaries: Iterable[FoundBinary]) -> RoleRule | None:
    """Return a tool's role with what its scripts' interpreters must be started as; None: none of them is a script.

    Raises:
        MisuseError: two interpreters must be started in different ways.
    """
    scripts = [each.role for each in binaries if each.role is not None]
    if not scripts:
        return None
    options = {(each.interpreter_options, each.required_options) for each in scripts}
    if len(options) > 1:
        raise MisuseError("these scripts' interpreters take different options", next_step="enroll one kind of them")
    return msgspec.structs.replace(
        role,
        argv0_names=tuple(dict.fromkeys((*role.argv0_names, *(name for each in scripts for name in each.argv0_names)))),
        runtimes=tuple(dict.fromkeys((*role.runtimes, *(name for each in scripts for name in each.runtimes)))),
        interpreter_options=scripts[0].interpreter_options,
        required_options=scripts[0].required_options,
    )


def package_of(found: FoundBinary, packages: Distribution | None = None) -> FoundBinary:
    """Name the package that a binary belongs to: then an update of it needs no approval."""
    packages = packages or Distribution()
    fd = os.open(found.enrolled.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        owner = packages.owner_of(found.enrolled.path, facts_by_stat(fd))
    finally:
        os.close(fd)
    if owner is None or not owner.intact:
        return found
    return dataclasses.replace(found, enrolled=msgspec.structs.replace(found.enrolled, package=owner.name))


def _require_roots(shim: Path, owner: Owner) -> None:
    try:
        facts = shim.lstat()
    except OSError as error:
        raise MisuseError(f"there is no shim at {shim}", next_step="install the package again") from error
    writable = facts.st_uid != 0 or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or not stat.S_ISREG(facts.st_mode)
    if writable or os.path.realpath(shim) != str(shim) or may_replace(shim, owner):
        raise MisuseError(f"{shim} could be replaced by others than root", next_step="install the package for root")
