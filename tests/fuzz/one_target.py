"""One fuzz target in its own process: ``python -m tests.fuzz.one_target NAME [libFuzzer's options and folders]``."""

import sys

import atheris

from tests.fuzz.targets import target

if __name__ == "__main__":
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["agent_broker"]):
        one_input = target(name)
    atheris.Setup([sys.argv[0], *options], one_input)
    atheris.Fuzz()
