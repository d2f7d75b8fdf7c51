"""A user's home with ~/.aws, and everything that enrolling the aws command works with, on the real file system."""

import configparser
import os
import shlex
from pathlib import Path
from typing import Any

from agent_broker.enroll.aws import AwsRecipe
from agent_broker.enroll.plan import Plan
from agent_broker.enroll.ports import Site
from agent_broker.enroll.tool_plan import make_tool_plan
from tests.fakes.enroll_world import EnrollWorld

SHIM = Path(os.path.realpath("/usr/bin/true"))
"""Any file of root's."""


class AwsWorld(EnrollWorld):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.recipe = AwsRecipe(SHIM)
        self.aws = self.make_folder(self.home / ".aws")

    def site(self, on_step=lambda _: None) -> Site:
        return Site(**{**vars(super().site(on_step)), "tools_dir": self.state / "registry/tools"})

    def plan(self) -> Plan:
        tools = self.site().tools_dir
        return make_tool_plan(self.recipe, self.owner, shim=SHIM, tools_dir=tools, binaries=(self.binary,))

    def write(self, credentials: str | None = None, config: str | None = None) -> None:
        for name, text in (("credentials", credentials), ("config", config)):
            if text is not None:
                self.make(self.aws / name, text)

    def read(self, name: str) -> configparser.RawConfigParser:
        """Return a file as botocore reads it."""
        parser = configparser.RawConfigParser(default_section="")
        parser.read_string((self.aws / name).read_text())
        return parser

    def processes(self) -> dict[str, list[str]]:
        """Return what ``credential_process`` is, by section of ~/.aws/config."""
        parser = self.read("config")
        return {
            each: shlex.split(parser[each]["credential_process"])
            for each in parser.sections()
            if "credential_process" in parser[each]
        }

    def stored(self) -> dict[str, Any]:
        """Return the credentials in the vault, by the last part of their ids."""
        kept = self.store.records.items()
        return {name.rpartition("/")[2]: each for name, each in kept if each.kind == "aws-keys"}
