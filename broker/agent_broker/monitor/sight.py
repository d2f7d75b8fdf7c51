"""What this kernel tells the monitor, or lets it deny, of an attack on a running agent; for ``doctor``.

Found out by loading: a hook that could not be attached is in ``missing`` (kernel.loader.Programs).
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

Hold = Literal["denied", "seen", "unseen"]


class Sight(Struct, frozen=True):
    """The default is that of a monitor that is blind."""

    ptrace: Hold = "unseen"
    """A debugger of another user than root. ``seen``: at its first stop; the agent gets nothing from then on."""
    memory_writes: Hold = "unseen"
    """process_vm_writev and /proc/PID/mem, likewise."""
    connection_writers: Literal["seen", "unseen"] = "unseen"
    """Who writes on a connection to the broker, also with a descriptor that was borrowed and is closed again."""
    mappings: Literal["seen at once", "looked at", "unseen"] = "unseen"
    """Executable mappings of foreign files; ``looked at``: when the agent asks for something."""


def sight_without(missing: Mapping[str, str]) -> Sight:
    """Return what is told and denied without the hooks that are missing."""
    denies = "guard" not in missing
    code = missing.keys().isdisjoint({"map_code", "protect_code"})
    return Sight(
        ptrace=_hold(denies=denies, sees="trace" not in missing),
        memory_writes=_hold(denies=denies, sees="memory" not in missing),
        connection_writers="unseen" if "send" in missing else "seen",
        mappings="seen at once" if code else "looked at",
    )


def _hold(*, denies: bool, sees: bool) -> Hold:
    if denies:
        return "denied"
    return "seen" if sees else "unseen"
