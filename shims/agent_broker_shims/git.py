"""git's credential helper: ``get``, ``store`` or ``erase``, and ``key=value`` lines on stdin (gitcredentials(7)).

Read from git 2.39 and 2.55. Newer ones send more keys (``capability[]``, ``wwwauth[]``), which say nothing here. What a
remote is asked for with ``credential.useHttpPath`` comes with its path; without that the whole server is meant.

``store`` is taken and forgotten: what git just used is what it was given, and whoever else runs the helper may not put
anything into the vault. ``erase`` likewise: any server can provoke it by a 401.
"""

from collections.abc import Mapping, Sequence

from agent_broker_shims.port import Answer, NotThisProtocolError, Question

TOOL = "git"
_MAX_LINES = 256


def question(arguments: Sequence[str], stdin: bytes, environment: Mapping[str, str]) -> Question | Answer:
    """Return what is asked for, or the answer at once where nothing is.

    Raises:
        NotThisProtocolError: the lines are not git's, or name no server.
    """
    del environment
    if len(arguments) != 1:
        raise NotThisProtocolError("git calls its helper with one word: get, store or erase")
    if arguments[0] != "get":  # what is not known must be ignored: gitcredentials(7)
        return Answer()
    fields = _fields(stdin)
    protocol, host = fields.get("protocol", ""), fields.get("host", "")
    if not protocol or not host:
        raise NotThisProtocolError("git asks for a password that is no server's")
    path = fields.get("path", "").strip("/")
    destination = f"{protocol}://{host}" + (f"/{path}" if path else "")
    return Question(destination, fields.get("username", ""))


def answer(asked: Question, username: str, password: bytes) -> bytes:
    """Return what git reads.

    Raises:
        NotThisProtocolError: a line break or NUL in them, which git's lines can't hold.
    """
    del asked
    if any(byte in text for text in (username.encode(), password) for byte in b"\n\r\0"):
        raise NotThisProtocolError("the credential can't be said in git's protocol")
    return b"username=%s\npassword=%s\n" % (username.encode(), password)


def not_found(asked: Question) -> Answer:
    """Return what makes git ask the person in front of it: nothing."""
    del asked
    return Answer()


def _fields(stdin: bytes) -> dict[str, str]:
    """Return the lines up to the first empty one; a key given twice is nobody's to choose from."""
    try:
        lines = stdin.decode().split("\n", _MAX_LINES)
    except UnicodeDecodeError as error:
        raise NotThisProtocolError("git's lines are not UTF-8") from error
    if len(lines) > _MAX_LINES:
        raise NotThisProtocolError("git sends fewer lines")
    found: dict[str, str] = {}
    for line in lines:
        if not line:
            break
        key, equals, value = line.partition("=")
        if not equals or not key:
            raise NotThisProtocolError("a line is not key=value")
        if key.endswith("[]"):
            continue
        if key in found:
            raise NotThisProtocolError("a key is there twice")
        found[key] = value
    return found
