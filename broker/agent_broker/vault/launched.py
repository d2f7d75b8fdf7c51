"""A secret that ``agent-broker run --with`` gives to a program: how, and to which. Pure; kept as a record's attributes.

The law: it is given to the programs that are named here and to no other. A program is a path without links; a file that
no intact package of the distribution owns is named with its hash too.
"""

import re
from pathlib import PurePosixPath
from typing import Final

import msgspec
from msgspec import Struct

from agent_broker.errors import IntegrityError, MisuseError

TOOL: Final = "run"
"""The first part of such a record's id."""
KIND: Final = "run-secret"
MAX_SECRET_BYTES: Final = 16 << 10
MAX_PROGRAMS: Final = 64
_ATTRIBUTE: Final = "launched"
_VARIABLE: Final = re.compile(r"[A-Za-z_][\x21-\x3c\x3e-\x7e]{0,254}")
"""npm reads ``npm_config_//HOST/:_authToken``."""
_OPTION: Final = re.compile(r"--?[A-Za-z][A-Za-z0-9-]{0,62}")
_MAX_TEXT_CHARACTERS: Final = 4096
SECRET_MARK: Final = "{secret}"  # noqa: S105 - what stands for one


class Delivery(Struct, frozen=True, forbid_unknown_fields=True):
    """One way to hand it over: a variable, or a memory file that a variable or an option names."""

    variable: str = ""
    """Holds the secret, or, with ``file``, the path of a memory file."""
    option: str = ""
    """Of the command, followed by the path of a memory file."""
    file: str = ""
    """The memory file's text; SECRET_MARK stands for the secret."""

    def require_well_formed(self) -> None:
        """Check what a person may choose.

        Raises:
            MisuseError: neither variable nor option, or none that a program could read.
        """
        if bool(self.variable) == bool(self.option) or (self.option and not self.file):
            raise MisuseError("a secret is given by a variable, or in a file that a variable or an option names")
        if self.variable and not _VARIABLE.fullmatch(self.variable):
            raise MisuseError("a variable's name begins with a letter, and has neither spaces nor '='")
        if self.option and not _OPTION.fullmatch(self.option):
            raise MisuseError("an option is --NAME")
        if self.file and (SECRET_MARK not in self.file or len(self.file) > _MAX_TEXT_CHARACTERS or "\0" in self.file):
            raise MisuseError(f"a file's text has {SECRET_MARK} in it, and at most {_MAX_TEXT_CHARACTERS} characters")


class Launched(Struct, frozen=True, forbid_unknown_fields=True):
    """What the record of such a secret says."""

    deliveries: tuple[Delivery, ...]
    programs: tuple[str, ...]
    """Paths of those that it is given to, scripts among them."""
    files: dict[str, str] = {}
    """SHA-256 of what no package owns: a program, or the interpreter of one."""

    def attributes(self) -> dict[str, str]:
        """Return what the vault keeps beside the secret.

        Raises:
            MisuseError: it can't be kept: nothing, or too many.
        """
        for each in self.deliveries:
            each.require_well_formed()
        if not self.deliveries or not self.programs or len(self.programs) > MAX_PROGRAMS:
            raise MisuseError(f"a secret is given in some way to 1 to {MAX_PROGRAMS} programs")
        if not all(PurePosixPath(each).is_absolute() and each.isprintable() for each in (*self.programs, *self.files)):
            raise MisuseError("a program is named by its whole path")
        return {_ATTRIBUTE: msgspec.json.encode(self).decode()}

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of the variables that are set."""
        return tuple(each.variable for each in self.deliveries if each.variable)


def launched_of(attributes: dict[str, str], name: str) -> Launched:
    """Return what a record's attributes say; ``name`` is for the message.

    Raises:
        IntegrityError: they say nothing.
    """
    try:
        return msgspec.json.decode(attributes[_ATTRIBUTE], type=Launched)
    except (KeyError, msgspec.DecodeError) as error:
        raise IntegrityError(
            f"{name} does not say to whom it is given", next_step="remove it, and add it anew"
        ) from error
