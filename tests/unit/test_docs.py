"""What the documents say of the configuration is what the code has."""

import re
from pathlib import Path

import msgspec

from agent_broker.config.document import Config, parse_config

DOCS = Path(__file__).parents[2] / "docs"


def test_the_documented_configuration_is_the_default_one():
    section = (DOCS / "cli.md").read_text().partition("## config.toml")[2]
    example = "\n".join(re.findall(r"^    (.*)$", section, re.MULTILINE))

    assert len(example.splitlines()) > 15
    assert msgspec.to_builtins(parse_config(example.encode(), "cli.md")) == msgspec.to_builtins(Config())
