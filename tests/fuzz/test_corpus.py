"""Every committed input of the fuzz targets holds what its target promises; ``make fuzz`` looks for more."""

import pytest

from tests.fuzz.targets import CORPUS, NAMES, target

INPUTS = [(name, path) for name in NAMES for path in sorted((CORPUS / name).iterdir())]


@pytest.mark.parametrize(("name", "path"), INPUTS, ids=[f"{name}/{path.name}" for name, path in INPUTS])
def test_input(name, path):
    target(name)(path.read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_every_target_has_inputs(name):
    assert len([path for path in (CORPUS / name).iterdir() if path.stat().st_size]) >= 5
