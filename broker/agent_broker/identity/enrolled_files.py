"""From the registry to the table of known files: each enrolled binary is opened, numbered by the kernel, hashed."""

import os
from collections.abc import Iterable

from agent_broker.errors import AgentBrokerError, IntegrityError
from agent_broker.identity.agent import AgentTable, KnownFile
from agent_broker.identity.executable import HashCache
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
                problems.append(f"{enrollment.agent} of {enrollment.owner_name}: {error}")
    return AgentTable(tuple(known)), tuple(problems)


def register_files(sensor: Sensor, before: AgentTable, after: AgentTable) -> None:
    """Ask the kernel side for the strings of every enrolled file's execs, and no more for those that left."""
    old = {(each.facts.dev, each.facts.ino) for each in before.known}
    new = {(each.facts.dev, each.facts.ino) for each in after.known}
    for key in new - old:
        sensor.register(*key)
    for key in old - new:
        sensor.unregister(*key)


async def _known_file(enrollment: Enrollment, binary: EnrolledBinary, sensor: Sensor, hashes: HashCache) -> KnownFile:
    fd = os.open(binary.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        facts = sensor.own_file(fd).file
        if facts.size_bytes != binary.size_bytes:  # before hashing: its owner may have made it endless
            raise _changed(binary)
        sha256 = await hashes.hash_fd(fd, facts)
    finally:
        os.close(fd)
    if sha256 != binary.sha256:
        raise _changed(binary)
    return KnownFile(enrollment, binary, facts)


def _changed(binary: EnrolledBinary) -> IntegrityError:
    return IntegrityError(f"{binary.path} is not what was enrolled; if you updated it, enroll the agent again")
