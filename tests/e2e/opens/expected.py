"""What each cell is to be: by the mechanism's kind, and where the form of the path makes it another."""

from msgspec import Struct

from tests.e2e.opens.mechanisms import CHANGES, LOOKS, OPENS, RECEIVES, Mechanism
from tests.e2e.opens.places import FORMS, OVERLAYS
from tests.e2e.opens.trial import DENIED, DENYING, ENFORCE, LEFT_OUT, NAMED, REFUSED, SENDER, TOLD, UNSEEN, Mode


class Reason(Struct, frozen=True):
    """Why a cell is not ``yes`` or ``told``, and which tier sees more."""

    letter: str
    text: str


LOOKED = Reason(
    "a",
    "nothing is opened, and neither the path nor the content changes: told in no tier, but for a further name of the "
    "file itself, which *enforce* refuses",
)
OTHER_NAME = Reason(
    "b", "what changes is another name, or an overlay's own copy: the watched file stays as it is where it is, watched"
)
NOT_REACHED = Reason(
    "c", "refused before any hook of any tier, by owner and mode, or because there is no file: nothing was read"
)
RECEIVER = Reason(
    "d", "the open is told, with the process that sends; who gets the descriptor is seen by the tier *enforce* alone"
)
ABOVE = Reason(
    "e",
    "who opened it passed the denial; of the descriptor on its way security_file_receive has the overlay's own inode "
    "alone, which is not marked (fs/file.c; which layer is behind it, overlayfs keeps to itself)",
)
KERNEL = Reason("-", "the kernel itself refuses that here, or there is no such path")
REASONS = (LOOKED, OTHER_NAME, NOT_REACHED, RECEIVER, ABOVE, KERNEL)

_DEFAULTS = {
    OPENS: {"enforce": DENIED, "observe+": NAMED, "observe": TOLD, "none": TOLD},
    CHANGES: {"enforce": DENIED, "observe+": TOLD, "observe": TOLD, "none": TOLD},
    RECEIVES: {"enforce": DENIED, "observe+": SENDER, "observe": TOLD, "none": SENDER},
    LOOKS: dict.fromkeys(("enforce", "observe+", "observe", "none"), UNSEEN),
}
_OTHER_NAMES = ("symlink", "hard link")
_RENAMES = ("unlink", "rename", "rename-over", "rename-exchange", "tmpfile-link")
_READ_BY_COPY_UP = "read by copy-up"
_EXCEPTIONS: dict[tuple[str, str], str] = {
    **{(change, form): UNSEEN for change in _RENAMES for form in _OTHER_NAMES},
    **{(change, "through lower"): UNSEEN for change in ("creat", "unlink", "rename-over", "tmpfile-link")},
    **{(look, "through lower"): _READ_BY_COPY_UP for look in ("link", "chmod")},
    **{(change, "bind file"): REFUSED for change in _RENAMES},
    **{("openat2", form): REFUSED for form in ("/proc/PID/root", "/proc/self/cwd")},
    **{("handle", form): REFUSED for form in ("other mount ns", "chroot", *OVERLAYS)},
    **{("proc-root", form): REFUSED for form in ("relative", "chroot")},
    ("opath-proc", "chroot"): REFUSED,
}
"""Of one mechanism on one form, in every mode but where ``_ENFORCED`` has another. openat2 is asked with
RESOLVE_NO_MAGICLINKS; a chroot here has no /proc; an overlay gives no file handles unless it is mounted to
(nfs_export), and a user namespace's root may not open any."""
_ENFORCED: dict[tuple[str, str], str] = {
    **{("link", form): DENIED for form in FORMS if form not in {"symlink", "bind file"}},
    **{(change, "hard link"): DENIED for change in _RENAMES},
    **{("receive", form): UNSEEN for form in ("through lower", "through upper")},
    **{("handle", form): DENIED for form in ("overlay", "copied up")},
    ("tmpfile-link", "through lower"): REFUSED,
}
"""What the kernel's own denial makes of them: it goes by the file, whatever its name. Its kernel (6.1) makes no files
without a name on an overlay; there it has handles of those on which watched paths lie, that are mounted to."""
ENFORCED_ON = {("overlay", "tmpfile-link", "symlink"): REFUSED}
"""The same, where all the files lie on a file system of a kind."""


def expected(mechanism: Mechanism, form: str, mode: Mode, kind: str = "") -> str:
    """Return the result that a cell is to have, on a file system of a kind (empty: most)."""
    if mechanism.forms and form not in mechanism.forms:
        return LEFT_OUT
    exception = _EXCEPTIONS.get((mechanism.name, form))
    if mode == ENFORCE:
        exception = _ENFORCED.get((mechanism.name, form), exception)
        exception = ENFORCED_ON.get((kind, mechanism.name, form), exception)
    if exception == _READ_BY_COPY_UP:
        return _DEFAULTS[OPENS][mode.tier]
    return _default(mechanism, mode) if exception is None else exception


def _default(mechanism: Mechanism, mode: Mode) -> str:
    if mode == DENYING and mechanism.kind == OPENS:
        return DENIED
    if mode == DENYING and mechanism.kind == RECEIVES:
        return NAMED
    return _DEFAULTS[mechanism.kind][mode.tier]


def reason(mechanism: Mechanism, result: str) -> Reason | None:
    """Return why a cell is not seen as an open, or not with who did it; None: it is."""
    if result == UNSEEN:
        return _reason_unseen(mechanism)
    return {REFUSED: KERNEL, SENDER: RECEIVER}.get(result)


def _reason_unseen(mechanism: Mechanism) -> Reason:
    if mechanism.kind == RECEIVES:
        return ABOVE
    if mechanism.kind != LOOKS:
        return OTHER_NAME
    return NOT_REACHED if mechanism.call == "open" else LOOKED
