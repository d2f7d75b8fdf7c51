"""Which script an interpreter was started with: from the arguments that the kernel copied at exec.

``/proc/PID/cmdline`` is not asked: a process can rewrite it. What is accepted is what every interpreter understands
the same way: its own name, options that the enrolment lists, then an absolute path without ``.``, ``..`` or an empty
component. Node resolves ``/link/../x`` by the text, the kernel by the link: a path on which the two can differ names
no script. A relative path depends on a folder that was not captured.
"""

import re

from msgspec import Struct


class Script(Struct, frozen=True):
    """The path of a script, or why there is none."""

    path: bytes = b""
    problem: str = ""


def started_script(arguments: bytes, allowed: tuple[str, ...], required: tuple[str, ...] = ()) -> Script:
    """Return the script that an interpreter runs.

    Args:
        arguments: of its exec, each ended by NUL; one that was cut has no NUL and is not looked at.
        allowed: regular expressions; an option that matches none as a whole makes it another program.
        required: regular expressions, each of which an option must match.
    """
    *whole, _cut = arguments.split(b"\0")
    options: list[str] = []
    for each in whole[1:]:
        if not each.startswith(b"-"):
            break
        options.append(each.decode("utf-8", "surrogateescape"))
    else:
        return Script(problem="its interpreter was given no script")
    if not all(any(re.fullmatch(pattern, option) for pattern in allowed) for option in options):
        return Script(problem="its interpreter was given an option that is not enrolled")
    if not all(any(re.fullmatch(pattern, option) for option in options) for pattern in required):
        return Script(problem="its interpreter was not given an option that the enrolment requires")
    return _named(each)


def _named(path: bytes) -> Script:
    if not path.startswith(b"/"):
        return Script(problem="its script is named by a relative path; start it by its full path or by the PATH")
    if any(part in {b"", b".", b".."} for part in path.split(b"/")[1:]):
        return Script(problem="its script's path has an empty component, '.' or '..'")
    return Script(path)
