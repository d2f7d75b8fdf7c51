"""JSON as the tools write it: two columns of indent, a newline at the end."""

import json

from agent_broker.honeytoken.entry import JsonValue


def json_text(value: JsonValue) -> bytes:
    """Return the text of a value."""
    return json.dumps(value, indent=2).encode() + b"\n"
