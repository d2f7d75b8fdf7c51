"""What enrolling keyring makes of uv's tables of indexes, and that no password is lost when it ends (needs root)."""

import pytest

from agent_broker.enroll.keyring import KeyringRecipe
from tests.fakes.enroll_cases import Case
from tests.fakes.transaction_world import ToolWorld

PASSWORD = "of-uv-" + "Ix4" * 9
UV = ".config/uv/uv.toml"
TABLES = f"""# mine
[[index]]
name = "ours"
url = "https://ann:{PASSWORD}@index.example.com/simple"
default = true
"""


@pytest.fixture
def world():
    case = Case(
        lambda root: KeyringRecipe(root / "bin/shim"),
        {UV: TABLES},
        (PASSWORD,),
        wiring="keyring-provider",
        program="uv",
    )
    made = ToolWorld(case)
    yield made
    made.close()


def test_a_table_loses_its_password_and_comes_back_byte_for_byte(world):
    world.enroll()

    now = (world.home / UV).read_text()
    assert 'url = "https://ann@index.example.com/simple"' in now
    assert 'keyring-provider = "subprocess"' in now.partition("[[index]]")[0]
    assert PASSWORD not in now
    assert PASSWORD.encode() in world.store.unsealed().values()
    world.unenroll()
    assert world.snapshot() == world.before


def test_a_file_that_was_changed_since_stays_and_the_password_is_beside_it(world):
    world.enroll()
    changed = (world.home / UV).read_text() + "explicit = true\n"
    (world.home / UV).write_text(changed)

    report = world.unenroll()

    assert (world.home / UV).read_text() == changed
    (kept,) = [path for path in (world.home / UV).parent.iterdir() if path.name != "uv.toml"]
    assert kept.read_text() == TABLES
    assert any(kept.name in each.what for each in report.outcomes)
