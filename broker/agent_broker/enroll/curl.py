"""curl as a reader of a ``~/.netrc`` that is a view (view_plan): which command lines use a login and don't show it.

The law of its role:
1. ``-q`` comes first: ``~/.curlrc`` could have it write down what it sends.
2. Every other word is of those below, and each address is one of https. So curl can't be told to print, send or write a
   file of the user's (``file:``, ``-T``, ``-d @FILE``, ``-K``), to tell what it sends (``-v``, ``--trace``), to believe
   another server (``-k``, ``--cacert``), or to go where the name does not lead (``--resolve``, ``--proxy``).
3. ``-L`` could lead to http, where a proxy of the environment's reads along: only with ``--proto =https``
   or ``--proto-redir =https``.
"""

from typing import Final

from agent_broker.identity.registry import RoleRule

TOOL: Final = "curl"

_FLAGS = "sSfniGIOJRNg46#"
"""Options of one letter that take nothing."""
_TAKE = "oXmCrAe"
"""Those that take a word, whatever it is."""
_TAKE_TEXT = "Hdw"
"""Those that take a word, or with @ a file's content."""
_LONG = (
    "silent|show-error|fail|include|fail-with-body|fail-early|netrc|netrc-optional|get|head|remote-name|remote-name-all|"
    "remote-header-name|remote-time|no-buffer|globoff|ipv4|ipv6|progress-bar|no-progress-meter|compressed|create-dirs|"
    "http1\\.1|http2|tlsv1\\.2|tlsv1\\.3|retry-all-errors|retry-connrefused"
)
_LONG_TAKE = (
    "output|output-dir|request|max-time|connect-timeout|continue-at|range|user-agent|referer|retry|retry-delay|"
    "retry-max-time|max-redirs|max-filesize|limit-rate|data-raw"
)
_LONG_TAKE_TEXT = "header|data|data-ascii|data-binary|json|write-out"
_TEXT = r"(?!@)[^\x00]*"


def _words(flags: str, long: str) -> str:
    """Return an expression for one word that is allowed, with what it takes."""
    forms = (
        r"https://[^\x00]*",
        rf"-[{flags}]+",
        rf"-[{flags}]*[{_TAKE}](?:[^\x00]+|\x00[^\x00]*)",
        rf"-[{flags}]*[{_TAKE_TEXT}](?:(?!@)[^\x00]+|\x00{_TEXT})",
        rf"--(?:{long})",
        rf"--(?:{_LONG_TAKE})\x00[^\x00]*",
        rf"--(?:{_LONG_TAKE_TEXT})\x00{_TEXT}",
        r"--proto(?:-redir)?\x00=https",
    )
    return f"(?:{'|'.join(forms)})"


def _line(words: str, more: str = "") -> str:
    return rf"{more}(?:-q|--disable)(?:\x00{words})*"


LINES: Final = (
    _line(_words(_FLAGS, _LONG)),
    _line(_words(f"{_FLAGS}L", f"{_LONG}|location"), r"(?=(?:.*\x00)?--proto(?:-redir)?\x00=https(?:\x00|\Z))"),
)


def role_for(home: str) -> RoleRule:
    """Return which images of curl read the netrc in this home."""
    return RoleRule(argv0_names=(TOOL,), runtimes=("loader", "tls"), lines=LINES, home=home)
