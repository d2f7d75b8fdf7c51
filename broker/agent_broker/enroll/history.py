"""The history of an enrolment: every file that was ever enrolled, with its version; nothing ever leaves it."""

from collections.abc import Iterable
from pathlib import Path

from agent_broker.enroll.vendor import version_of
from agent_broker.identity.registry import Approval, EnrolledBinary, Enrollment


def approvals_of(binary: EnrolledBinary, version: str, approved_ns: int, how: str) -> tuple[Approval, ...]:
    """Return the entries of one program: its file; of an interpreted one, script and bundle (its digest) too."""
    places = [(binary.path, binary.sha256, binary.size_bytes)]
    if binary.script is not None:
        bundle = binary.script.bundle
        places = [
            (binary.script.path, binary.script.sha256, 0),
            (bundle.root, bundle.digest, bundle.size_bytes),
            *places,
        ]
    return tuple(Approval(path, sha256, size, version, approved_ns, how) for path, sha256, size in places)


def first_approvals(binaries: Iterable[EnrolledBinary], enrolled_ns: int) -> tuple[Approval, ...]:
    """Return the entries of an enrolment."""
    return tuple(
        approval
        for binary in binaries
        for approval in approvals_of(binary, version_of(program_path(binary)), enrolled_ns, "enroll")
    )


def program_path(binary: EnrolledBinary) -> Path:
    """Return the file that is the program: of an interpreted one, its script."""
    return Path(binary.path if binary.script is None else binary.script.path)


def enrolled_version(enrollment: Enrollment, binary: EnrolledBinary) -> str:
    """Return the version under which a program was approved; empty if it was not known."""
    sha256 = binary.sha256 if binary.script is None else binary.script.sha256
    versions = [each.version for each in enrollment.history if each.sha256 == sha256 and each.version]
    return versions[-1] if versions else ""
