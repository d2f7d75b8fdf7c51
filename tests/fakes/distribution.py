"""Debian's package database as a small world: who owns a file by ``dpkg -S``, intact unless a test says otherwise."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    intact: bool


class Distribution:
    def __init__(self):
        self.tampered: set[str] = set()
        """Paths of files that are not what their packages brought."""
        self.more: dict[str, str] = {}
        """Packages of files that dpkg knows nothing of."""
        self.asked: list[str] = []

    def owner_of(self, path, facts):  # noqa: ARG002 - the real one compares them
        self.asked.append(path)
        names = [self.more[path]] if path in self.more else self._names(path)
        return Package(names[0], "1", path not in self.tampered) if names else None

    @staticmethod
    def _names(path):
        for each in (path, path.removeprefix("/usr")):
            said = subprocess.run(["dpkg", "-S", each], capture_output=True, text=True, check=False).stdout
            names = [line.partition(":")[0] for line in said.splitlines() if line.endswith(f": {each}")]
            if names and Path(path).exists():
                return names
        return []
