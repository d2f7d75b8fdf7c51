"""cargo's credential provider (doc.rust-lang.org/cargo/reference/credential-provider-protocol.html), version 1.

Read from cargo 1.96. Its name is the one word that cargo starts a provider with, ``--cargo-plugin``. The shim greets
(``{"v":[1]}``) and hands over the one line that cargo asks with: which registry, by the address of its index, and what
for. A token is a registry's, whatever it is asked for. ``login`` and ``logout`` are answered in the protocol's own
words: what the vault holds is not cargo's to change.

What cargo does with an error: it shows the message, and ends.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agent_broker_shims.port import Answer, NotThisProtocolError, Question

TOOL = "cargo"
_VERSION = 1


def question(arguments: Sequence[str], stdin: bytes, environment: Mapping[str, str]) -> Question | Answer:
    """Return which registry's token is asked for, or the answer at once.

    Raises:
        NotThisProtocolError: the line is not cargo's, or names no registry.
    """
    del environment
    if arguments:
        raise NotThisProtocolError("cargo starts its provider with --cargo-plugin alone")
    asked = _asked(stdin)
    if asked.get("kind") != "get":
        if asked.get("kind") in {"login", "logout"}:
            return _refusal("other", f"to change it: sudo agent-broker {asked['kind']} cargo --host INDEX")
        return _refusal("operation-not-supported", "")
    registry = asked.get("registry")
    index = registry.get("index-url") if isinstance(registry, dict) else None
    if not isinstance(index, str):
        raise NotThisProtocolError("no registry is named")
    return Question(destination_of(index))


def answer(asked: Question, username: str, password: bytes) -> bytes:
    """Return what cargo reads: the token, to be kept while cargo runs."""
    del asked, username
    token = {"kind": "get", "token": password.decode(), "cache": "session", "operation_independent": True}
    return json.dumps({"Ok": token}).encode() + b"\n"


def not_found(asked: Question) -> Answer:
    """Return what makes cargo say that there is no token."""
    del asked
    return _refusal("not-found", "")


def destination_of(index: str) -> str:
    """Return the destination of a registry: its index, without the word that says how it is read."""
    return index.removeprefix("sparse+").removeprefix("registry+")


def _asked(stdin: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(stdin)
    except (ValueError, RecursionError) as error:
        raise NotThisProtocolError("the line is no JSON") from error
    if not isinstance(asked, dict) or asked.get("v") != _VERSION:
        raise NotThisProtocolError("the line is of another version of the protocol")
    return asked


def _refusal(kind: str, message: str) -> Answer:
    """Return an error in cargo's words; its providers end with 0 all the same."""
    error = {"kind": kind, **({"message": message} if message else {})}
    return Answer(0, json.dumps({"Err": error}).encode() + b"\n")
