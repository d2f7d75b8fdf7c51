"""From the registry to the table of known files: each enrolled binary is opened, numbered by the kernel, hashed."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import msgspec

from agent_broker.disk import require_root_owned
from agent_broker.errors import AgentBrokerError, IntegrityError
from agent_broker.identity.agent import AgentTable, KnownFile
from agent_broker.identity.distribution import Distribution
from agent_broker.identity.executable import HashCache, hash_at_rest
from agent_broker.identity.registry import EnrolledBinary, Enrollment
from agent_broker.kernel.events import FileFacts
from agent_broker.kernel.sensor import Sensor


async def read_enrolled_files(
    enrollments: Iterable[Enrollment],
    sensor: Sensor,
    hashes: HashCache,
    tools: Iterable[Enrollment] = (),
    packages: Distribution | None = None,
) -> tuple[AgentTable, tuple[str, ...]]:
    """Return the table of all enrolled files, and a sentence for each that is not what was enrolled.

    A file that is missing, unreadable or changed is left out: its processes are then nobody's agent. A tool's file that
    its package replaced is what is enrolled now, if ``packages`` finds it intact.
    """
    files, problems = await _known_files(enrollments, sensor, hashes, None)
    of_tools, more = await _known_files(tools, sensor, hashes, packages)
    return AgentTable(files, of_tools), problems + more


async def _known_files(
    enrollments: Iterable[Enrollment], sensor: Sensor, hashes: HashCache, packages: Distribution | None
) -> tuple[tuple[KnownFile, ...], tuple[str, ...]]:
    known: list[KnownFile] = []
    problems: list[str] = []
    for enrollment in enrollments:
        for binary in enrollment.binaries:
            try:
                if packages is not None and binary.package:
                    binary = await _as_packaged(binary, sensor, hashes, packages)  # noqa: PLW2901 - as it is now
                found = await _known_file(enrollment, binary, sensor, hashes)
                known.append(msgspec.structs.replace(found, shim=_shim_of(enrollment, sensor)))
            except (AgentBrokerError, OSError) as error:
                if isinstance(error, FileNotFoundError) and _is_superseded(enrollment, binary):
                    continue
                problems.append(f"{enrollment.agent} of {enrollment.owner_name}: {error}")
    return tuple(known), tuple(problems)


async def _as_packaged(
    binary: EnrolledBinary, sensor: Sensor, hashes: HashCache, packages: Distribution
) -> EnrolledBinary:
    """Return a package's file as the package has it now; the enrolled one if it is not the package's any more."""
    fd = os.open(binary.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        facts = sensor.own_file(fd).file
        owner = await asyncio.to_thread(packages.owner_of, binary.path, facts)
        if owner is None or not owner.intact or owner.name != binary.package:
            return binary
        sha256 = await hash_at_rest(fd, facts, sensor, hashes)
    finally:
        os.close(fd)
    return msgspec.structs.replace(binary, sha256=sha256, size_bytes=facts.size_bytes)


def _shim_of(enrollment: Enrollment, sensor: Sensor) -> FileFacts | None:
    """Return the kernel's numbers of a tool's shim; None: it is an agent's, or the tool asks itself.

    Raises:
        IntegrityError: others than root could have written the shim.
        OSError: it can't be opened.
    """
    if enrollment.serving is None or not enrollment.serving.shim:
        return None
    path = Path(enrollment.serving.shim)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        require_root_owned(path, os.fstat(fd))
        return sensor.own_file(fd).file
    finally:
        os.close(fd)


def register_files(sensor: Sensor, before: AgentTable, after: AgentTable) -> None:
    """Ask the kernel side for the strings of every enrolled file's execs, and no more for those that left."""
    old, new = _uses(before), _uses(after)
    for key, guard in new.items():
        if old.get(key) != guard:
            sensor.register(*key, guard=guard)
    for key in old.keys() - new.keys():
        sensor.unregister(*key)


def _uses(table: AgentTable) -> dict[tuple[int, int], bool]:
    """Return the numbers of every enrolled file, and whether each process that executes it is to be guarded.

    An interpreter is not: most of its processes are nobody's agent, and their owner may debug them. Nor is a tool.
    """
    uses: dict[tuple[int, int], bool] = {}
    for each in (*table.known, *table.tools):
        key = (each.facts.dev, each.facts.ino)
        uses[key] = uses.get(key, True) and each.binary.script is None and each.enrollment.serving is None
    return uses


async def _known_file(enrollment: Enrollment, binary: EnrolledBinary, sensor: Sensor, hashes: HashCache) -> KnownFile:
    fd = os.open(binary.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        facts = sensor.own_file(fd).file
        if facts.size_bytes != binary.size_bytes:  # before hashing: its owner may have made it endless
            raise _changed(enrollment, binary)
        sha256 = await hash_at_rest(fd, facts, sensor, hashes)
    finally:
        os.close(fd)
    if sha256 != binary.sha256:
        raise _changed(enrollment, binary)
    return KnownFile(enrollment, binary, facts)


def _changed(enrollment: Enrollment, binary: EnrolledBinary) -> IntegrityError:
    approve = f"sudo agent-broker approve {enrollment.agent}"
    return IntegrityError(f"{binary.path} is not what was enrolled; if you updated it: {approve}")


def _is_superseded(enrollment: Enrollment, binary: EnrolledBinary) -> bool:
    """Tell an earlier version that an update left enrolled, and that the updater deletes when it likes."""
    folder = PurePosixPath(binary.path).parent
    newer = (each for each in enrollment.binaries if each.launchers and PurePosixPath(each.path).parent == folder)
    return not binary.launchers and any(newer)
