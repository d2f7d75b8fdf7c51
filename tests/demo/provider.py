"""The loopback provider as the demo drives it: how it answers, and which credentials it saw."""

import json
import os
import sys
from pathlib import Path

from tests.demo.check import eventually
from tests.demo.processes import Background

_READY = "mock provider on "


class Provider:
    """A mock of ``tests/fakes``, in a process of its own; without another word, that of the Anthropic API."""

    def __init__(self, folder: Path, module: str = "tests.fakes.mock_provider") -> None:
        self._log = folder / "requests.jsonl"
        self._mode = folder / "mode.json"
        self.answers()
        command = [sys.executable, "-m", module, "--port", "0"]
        command += ["--log", str(self._log), "--mode", str(self._mode)]
        self.process = Background("provider", command, folder / "provider.log", os.environ)
        self.base_url = ""

    def wait(self) -> None:
        """Return when it listens."""
        eventually(
            lambda: self.process.require_alive() and _READY in self.process.said(),
            "the provider to listen",
            within_s=60,
            seen=self.process.said,
        )
        self.base_url = self.process.said().partition(_READY)[2].split()[0]

    def answers(self, text: str = "hello", *, tool: str = "", delay_s: float = 0.0) -> None:
        """Decide the next answers.

        Args:
            text: what the model says.
            tool: a command that it wants the agent's Bash tool to run first.
            delay_s: between two of the six events of a streamed answer.
        """
        new = self._mode.with_suffix(".new")
        new.write_text(json.dumps({"answer": text, "tool_cmd": tool, "event_delay_s": delay_s}))
        new.replace(self._mode)  # it reads the file at every request

    def model_requests(self) -> list[dict[str, str]]:
        """Return the authentication headers of each request to the model so far."""
        if not self._log.exists():
            return []
        lines = self._log.read_text().rpartition("\n")[0].splitlines()
        requests = [json.loads(line) for line in lines]
        return [each["auth"] for each in requests if each["target"].startswith("/v1/messages")]
