"""How values are written into YAML, as kubectl writes them. Pure."""

import json

import yaml

from agent_broker.enroll.pointer import Value


def scalar(value: Value) -> str:
    """Return a value as it stands behind a colon."""
    if not isinstance(value, str):
        return json.dumps(value)
    dumped = _dump({"k": value}).removesuffix("\n")
    return dumped.removeprefix("k: ") if "\n" not in dumped else json.dumps(value, ensure_ascii=False)


def block(value: Value, column: int, newline: str) -> str:
    """Return a value as indented lines, without the last line break, as kubectl writes it: a list is not indented."""
    lines = _dump(value).removesuffix("\n").split("\n")
    return newline.join(" " * column + line if line else line for line in lines)


def _dump(value: Value) -> str:
    return yaml.safe_dump(value, default_flow_style=False, sort_keys=False, allow_unicode=True, width=1 << 30)
