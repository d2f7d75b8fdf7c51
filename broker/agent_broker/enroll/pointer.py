"""Where a value is in a file of an agent's, how the file is written, and what may be there."""

from typing import Literal

from agent_broker.errors import MisuseError

Format = Literal["json", "toml", "env", "shell", "fish", "systemd", "ini", "block", "ssh", "yaml"]
"""How a file is written. Of assignments, a line each: ``env`` is dotenv (``NAME=value``, also with ``export``),
``shell`` what sh, bash, zsh and direnv run, ``fish`` what fish runs, ``systemd`` environment.d(5). ``block`` is any
file of lines with one stretch of ours in it. ``ssh`` is ssh_config(5). ``yaml``: lists of named things are objects."""

Value = dict[str, "Value"] | list["Value"] | str | int | float | bool | None
"""What a member may hold: JSON's values. A format that has others (TOML's dates) presents them as one of these."""
Pointer = tuple[str, ...]
"""Keys from the root downwards. Elements of arrays are never addressed."""


class NotEditableError(MisuseError):
    """A file is not of its format as we accept it, or can't be edited safely; says why and where, quotes nothing."""


class Missing:
    """The type of MISSING."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = Missing()
"""What ``value_at`` returns for a member that is not there; JSON's null is there."""


def value_at(value: Value, path: Pointer) -> Value | Missing:
    """Return the value at a pointer, MISSING if there is none."""
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return MISSING
        value = value[key]
    return value
