"""One thing that ``doctor`` looked at."""

from typing import Literal

from msgspec import Struct

State = Literal["ok", "warning", "failed"]


class Finding(Struct, frozen=True):
    """What was found, how it stands, and what to do about it."""

    subject: str
    state: State
    text: str
    next_step: str = ""
