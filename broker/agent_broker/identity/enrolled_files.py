"""From the registry to the table of known files: each enrolled binary is opened, numbered by the kernel, hashed."""

import os
from collections.abc import Iterable
from pathlib import PurePosixPath

from agent_broker.errors import AgentBrokerError, IntegrityError
from agent_broker.identity.agent import AgentTable, KnownFile
from agent_broker.identity.executable import HashCache, hash_at_rest
from agent_broker.identity.registry import EnrolledBinary, Enrollment
from agent_broker.kernel.sensor import Sensor


async def read_enrolled_files(
    enrollments: Iterable[Enrollment], sensor: Sensor, hashes: HashCache
) -> tuple[AgentTable, tuple[str, ...]]:
    """Return the table of all enrolled files, and a sentence for each that is not what was enrolled.

    A file that is missing, unreadable or changed is left out: its processes are then nobody's agent.
    """
    known: list[KnownFile] = []
    problems: list[str] = []
    for enrollment in enrollments:
        for binary in enrollment.binaries:
            try:
                known.append(await _known_file(enrollment, binary, sensor, hashes))
            except (AgentBrokerError, OSError) as error:
                if isinstance(error, FileNotFoundError) and _is_superseded(enrollment, binary):
                    continue
                problems.append(f"{enrollment.agent} of {enrollment.owner_name}: {error}")
    return AgentTable(tuple(known)), tuple(problems)


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

    An interpreter is not: most of its processes are nobody's agent, and their owner may debug them.
    """
    uses: dict[tuple[int, int], bool] = {}
    for each in table.known:
        key = (each.facts.dev, each.facts.ino)
        uses[key] = uses.get(key, True) and each.binary.script is None
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
