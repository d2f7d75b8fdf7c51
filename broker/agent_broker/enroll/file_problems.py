"""What may be wrong with a file of the user's, in words, and what to do about it."""

from agent_broker.errors import MisuseError

_FIX_BY_COPY = "replace it by a plain file of your own with the same content, then try again"
PROBLEMS: dict[str, tuple[str, str]] = {
    "no-home": ("can't be opened as a folder that no symbolic link leads to", "check --home"),
    "foreign-home": ("does not belong to the user", "check --home and --user"),
    "symlink": ("is a symbolic link; it is not followed", _FIX_BY_COPY),
    "not-regular": ("is not a regular file", _FIX_BY_COPY),
    "foreign": ("belongs to another user", "chown it to the user, then try again"),
    "foreign-group": ("has a group that the user is not in", "chgrp it to a group of the user's, then try again"),
    "hard-linked": ("has a second name (hard link), which would keep the secret", _FIX_BY_COPY),
    "too-big": ("is too big", "make it smaller, then try again"),
    "unreadable": ("can't be read by the user", "chmod u+rw it, then try again"),
    "no-folder": ("does not exist", "run the agent once, then try again"),
    "linked-folder": ("is reached through a symbolic link; it is not followed", "make it a folder, then try again"),
    "not-a-folder": ("is not a folder", "make it a folder, then try again"),
    "foreign-folder": ("belongs to another user", "chown it to the user, then try again"),
    "unwritable-folder": ("is a folder that the user can't write to", "chmod u+wx it, then try again"),
    "attribute": ("has an attribute that a new file can't be given", "remove it with setfattr -x, then try again"),
    "immutable": ("is marked immutable or append-only", "chattr -ia it, then try again"),
    "read-only": ("lies on a file system that is mounted read-only", "mount it for writing, then try again"),
    "swapped-folder": ("is another folder than a moment ago", "stop whoever moves it, then try again"),
    "changed": ("was changed by somebody else in the meantime", "stop the agent, then try again"),
}
"""What each problem means, and what to do; ``os`` is the rest."""


class UnsafeFileError(MisuseError):
    """A file of the user's is not one that may be touched.

    Attributes:
        problem: a key of PROBLEMS.
    """

    def __init__(self, problem: str, path: str, detail: str) -> None:
        meaning, next_step = PROBLEMS[problem]
        super().__init__(f"{path} {meaning}" + (f" ({detail})" if detail else ""), next_step=next_step)
        self.problem = problem


class HomeChangedError(MisuseError):
    """Something is not as it was planned any more. Nothing is changed: a new plan may be made."""


class ChangedFileError(UnsafeFileError, HomeChangedError):
    """A file, or its folder, is another one than before."""


def unsafe_file(problem: str, path: str, detail: str) -> UnsafeFileError:
    """Return the error of a problem; ``problem`` is a key of PROBLEMS."""
    kind = ChangedFileError if problem in ("changed", "swapped-folder") else UnsafeFileError
    return kind(problem, path, detail)
