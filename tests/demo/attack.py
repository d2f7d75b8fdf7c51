"""The intruder's program (scanner.c) and its loot."""

import json
from collections.abc import Mapping
from pathlib import Path

from tests.demo.check import require
from tests.demo.memory import grep
from tests.demo.world import SCANNER, World


class Attack:
    """One run of the scanner by the agent's Bash tool, and what it took away."""

    def __init__(self, world: World) -> None:
        self._world = world

    def command(self, credential: str) -> str:
        """Return the command that the model asks for: steal the files, and ask the broker for a credential."""
        scanner = SCANNER.removeprefix("project/")
        return f"{scanner} {self._world.shim} {credential} {self._world.loot}"

    def stolen(self, secrets: Mapping[str, str]) -> list[str]:
        """Return the names of the secrets that are in the loot."""
        self.credentials()
        return [name for name, value in secrets.items() if grep({name: value}, self._world.loot)]

    def credentials(self) -> dict[str, object]:
        """Return what the copied ``.credentials.json`` holds."""
        return dict(json.loads(self._read("credentials.json"))["claudeAiOauth"])

    def refusal(self) -> tuple[int, str, str]:
        """Return the shim's exit code, what it gave away, and what it said."""
        return int(self._read("exit-code")), self._read("key"), self._read("refusal").strip()

    def answer(self) -> str:
        """Return the status line that the scanner got for the agent's token."""
        return self._read("answer").splitlines()[0]

    def clear(self) -> None:
        """Empty the attacker's folder."""
        for path in self._world.loot.iterdir():
            path.unlink()

    def _read(self, name: str) -> str:
        path: Path = self._world.loot / name
        require(path.exists(), "the agent's Bash tool to run the scanner", f"no {name} in its loot")
        return path.read_text()
