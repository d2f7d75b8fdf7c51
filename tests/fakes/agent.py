"""Builds the sample agent (agent.c): a native program, so that its file and hash are its identity.

python agent.py FOLDER/claude
"""

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("agent.c")
VERSION = "1.0.0 (sample agent)"


def build_agent(target: Path) -> Path:
    """Compile the sample agent to ``target`` and return it; its name is the agent's argv[0]."""
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(target), str(SOURCE)], check=True)
    target.chmod(0o755)
    return target


if __name__ == "__main__":
    build_agent(Path(sys.argv[1]))
