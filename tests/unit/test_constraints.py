"""What `make setup` installs is what packaging/constraints.txt says: nobody's release changes what CI proves."""

import sys
from importlib.metadata import distributions
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[2] / "packaging/constraints.txt"
OF_THE_ENVIRONMENT = {"pip", "setuptools"}  # python -m venv puts them there
OURS = {"agent-broker", "agent-broker-keyring"}


def same_spelling(name):
    return name.lower().replace("_", "-").replace(".", "-")


def test_every_installed_library_is_the_one_that_is_written_down():
    lines = (line.partition("==") for line in CONSTRAINTS.read_text().splitlines())
    written = {same_spelling(name): version for name, _, version in lines}
    there = distributions(path=[each for each in sys.path if each.startswith(sys.prefix)])
    installed = {same_spelling(each.name): each.version for each in there}

    differ = {
        name: version
        for name, version in installed.items()
        if name not in OF_THE_ENVIRONMENT | OURS and written.get(name) != version
    }
    assert len(installed) > len(written) / 2
    assert differ == {}, "run: make constraints"
