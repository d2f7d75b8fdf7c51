"""The table of opens (tests/e2e/opens) where the kernel denies by itself: the whole of it, on each file system.

docs/open-table.md is written from the same declarations.
"""

import asyncio
import contextlib
import tempfile
from pathlib import Path

import pytest

from tests.e2e.opens.expected import expected
from tests.e2e.opens.mechanisms import MECHANISMS, compile_programs
from tests.e2e.opens.places import FORMS, Ground
from tests.e2e.opens.trial import ENFORCE, Table
from tests.fakes.file_systems import KINDS, FileSystem


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory(prefix="table-", dir="/dev/shm") as name:  # /tmp is virtme's: it has no file ids
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def table(folder):
    programs = folder / "programs"
    programs.mkdir(mode=0o755)
    compile_programs(programs)
    with contextlib.closing(Table(programs)) as table:
        yield table


@pytest.fixture(scope="module", params=KINDS)
def ground(folder, request):
    with contextlib.closing(FileSystem(request.param, folder)) as system:
        # without, an overlay has no file ids on this kernel (6.1): then its folders can't be watched
        with_ids = ",index=on,nfs_export=on"
        holds = system.kind != "overlay"
        yield system.kind, Ground(system.at, system.lower, holds_layers=holds, overlay_options=with_ids)


@pytest.mark.parametrize("form", FORMS)
def test_every_cell_is_as_the_table_says(table, ground, form):
    kind, where = ground
    cells = asyncio.run(table.cells(MECHANISMS, form, ENFORCE, where))

    assert cells.keys() == {row.name for row in MECHANISMS}
    declared = {row.name: expected(row, form, ENFORCE, kind) for row in MECHANISMS}
    differ = [
        f"{name}: {cell.result}, declared {declared[name]} ({cell.detail})"
        for name, cell in cells.items()
        if cell.result != declared[name]
    ]
    assert not differ, "\n".join(differ)
