"""Before an enrolment counts: is what was written still there, and is what was moved nowhere else?"""

from agent_broker.enroll.file_problems import unsafe_file
from agent_broker.enroll.file_protocol import Scan
from agent_broker.enroll.file_state import sha256_of
from agent_broker.enroll.journal import Transaction
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.ports import Site
from agent_broker.enroll.recipe import Survey
from agent_broker.enroll.user_files import UserFiles
from agent_broker.identity.registry import load_registries

_SCAN_BYTES = 512 * 1024 * 1024
"""Of each place that matters, and again of the rest of the home: about a second of reading from a disk cache."""
_SCAN_FILES = 200_000
_NEEDLE_BYTES = 8  # shorter ones would be found anywhere by chance


def search(owner: Owner, survey: Survey, site: Site, files: UserFiles) -> list[str]:
    """Look for what was moved, before the decoys are watched; other agents' decoys are passed over.

    Returns:
        Warnings: files that still hold a moved secret, and how many were not looked at.
    """
    home = owner.home.rstrip("/") + "/"
    others = load_registries(site.registries)
    watched = [decoy.path for other in others for decoy in other.decoys]
    watched += [decoy.path for decoy in site.planted]
    order = Scan(
        needles=tuple({needle.reveal() for needle in survey.needles if len(needle) >= _NEEDLE_BYTES}),
        first=survey.scan_first,
        skip=tuple(path.removeprefix(home) for path in watched if path.startswith(home)),
        limit_bytes=_SCAN_BYTES,
        limit_files=_SCAN_FILES,
    )
    result = files.scan(order, lambda count: site.on_step(f"searched {count} files"))
    warnings = [f"{home}{path} still holds a moved secret: delete it there" for path in result.found]
    if result.not_looked_at:
        warnings.append(f"{result.not_looked_at} files or folders of {home} were not searched: too big, unreadable")
    return warnings


def verify(transaction: Transaction, files: UserFiles) -> None:
    """Make sure that each file holds what was written: an agent that runs may write the old key back from memory.

    Raises:
        UnsafeFileError: one does not, or may not be touched any more.
    """
    for record in transaction.files:
        content = files.read(record.path)
        if content is None or sha256_of(content.data) != record.new_sha256:
            raise unsafe_file("changed", files.absolute(record.path), "")
