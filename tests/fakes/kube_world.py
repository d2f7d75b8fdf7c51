"""A user's home with kubeconfigs, and everything that enrolling kubectl works with, on the real file system."""

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from agent_broker.enroll.kubectl import KubectlRecipe
from agent_broker.enroll.plan import Plan
from agent_broker.enroll.ports import Site
from agent_broker.enroll.tool_plan import make_tool_plan
from tests.fakes.enroll_world import EnrollWorld

SHIM = Path(os.path.realpath("/usr/bin/true"))
"""Any file of root's."""
AUTHORITY = base64.b64encode(b"an authority's certificate").decode()


class KubeWorld(EnrollWorld):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.recipe = KubectlRecipe(SHIM)
        self.make_folder(self.home / ".kube")

    def site(self, on_step=lambda _: None) -> Site:
        return Site(**{**vars(super().site(on_step)), "tools_dir": self.state / "registry/tools"})

    def plan(self) -> Plan:
        tools = self.site().tools_dir
        return make_tool_plan(self.recipe, self.owner, shim=SHIM, tools_dir=tools, binaries=(self.binary,))

    def write(self, held: Mapping[str, Any], path: str = ".kube/config") -> Path:
        return self.make(self.home / path, yaml.safe_dump(dict(held), sort_keys=False))

    def users(self, path: str = ".kube/config") -> dict[str, Any]:
        """Return the entries of a kubeconfig, by name."""
        held = yaml.safe_load((self.home / path).read_text())
        return {each["name"]: each["user"] for each in held["users"]}

    def stored(self) -> dict[str, Any]:
        """Return the credentials in the vault, by the last part of their ids."""
        kept = self.store.records.items()
        return {name.rpartition("/")[2]: each for name, each in kept if each.kind == "kubernetes-user"}


def cluster(name: str, **more: object) -> dict[str, Any]:
    """Return an entry of ``clusters``."""
    held = {"server": f"https://{name}.example:6443", "certificate-authority-data": AUTHORITY, **more}
    return {"name": name, "cluster": held}


def kubeconfig(users: Mapping[str, Any], *clusters: dict[str, Any], contexts: Any = None) -> dict[str, Any]:
    """Return a kubeconfig in which each user is used at the first cluster, or where ``contexts`` says."""
    pairs = [(user, clusters[0]["name"]) for user in users] if contexts is None else contexts
    named = [{"name": f"{user}@{where}", "context": {"user": user, "cluster": where}} for user, where in pairs]
    held = [{"name": name, "user": user} for name, user in users.items()]
    return {"apiVersion": "v1", "kind": "Config", "clusters": list(clusters), "contexts": named, "users": held}
