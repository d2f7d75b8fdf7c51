"""``~/.netrc``, which git, pip, uv and twine read before they ask: what a plan has to say of it."""

from typing import Final

from agent_broker.enroll.user_files import UserFiles
from agent_broker.honeytoken.netrc import netrc_secrets

_NETRC: Final = ".netrc"
_SHOWN: Final = 3  # machines


def netrc_warnings(files: UserFiles, who: str, tool: str) -> tuple[str, ...]:
    """Return what to tell of passwords in the file that a tool would use in place of the broker's; a link has none.

    Args:
        files: the home.
        who: reads the file.
        tool: as it is enrolled.
    """
    content = None if files.link_target(_NETRC) is not None else files.read(_NETRC)
    if content is None:
        return ()
    found = dict.fromkeys(each.machine for each in netrc_secrets(content.data.decode("utf-8", "replace")))
    machines = [each or "every other host" for each in found]
    if not machines:
        return ()
    named = ", ".join([*machines[:_SHOWN], *(["others"] if len(machines) > _SHOWN else [])])
    path = files.absolute(_NETRC)
    told = (
        f"{path} has a password of {named}, which {who} before the broker is asked: take it out, or let it be the "
        f"broker's too, afterwards: sudo agent-broker enroll --file {path} --for {tool}"
    )
    return (told,)
