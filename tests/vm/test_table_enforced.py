"""The table of opens (tests/e2e/opens) where the kernel denies by itself: every mechanism, on an ext4 of its own.

docs/open-table.md is written from the same declarations. The other file systems and forms: test_open_table.py.
"""

import asyncio
import contextlib
import tempfile
from pathlib import Path

import pytest

from tests.e2e.opens.expected import expected
from tests.e2e.opens.mechanisms import MECHANISMS, compile_programs
from tests.e2e.opens.places import Ground
from tests.e2e.opens.trial import ENFORCE, ENFORCED_FORMS, Table
from tests.fakes.file_systems import FileSystem


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory(prefix="table-", dir="/dev/shm") as name:  # /tmp is virtme's: it has no file ids
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def table(folder):
    compile_programs(folder)
    with contextlib.closing(Table(folder)) as table:
        yield table


@pytest.fixture(scope="module")
def ground(folder):
    with contextlib.closing(FileSystem("ext4", folder)) as system:
        yield Ground(system.at)


@pytest.mark.parametrize("form", ENFORCED_FORMS)
def test_every_cell_is_as_the_table_says(table, ground, form):
    async def carry_out():
        return [(row, await table.cell(row, form, ENFORCE, ground)) for row in MECHANISMS]

    cells = asyncio.run(carry_out())

    assert [
        f"{row.name}: {cell.result}, declared {expected(row, form, ENFORCE)} ({cell.detail})"
        for row, cell in cells
        if cell.result != expected(row, form, ENFORCE)
    ] == []
