"""The backend bcc on Debian's kernel with its own headers and its types hidden: the same contract.

One sensor for all tests of the contract: the guest's processor is emulated, and compiling takes its time.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from agent_broker.errors import UnavailableError
from agent_broker.identity.environment import scan_strings
from agent_broker.kernel.bcc import headers
from agent_broker.kernel.bcc.btf import KernelTypes
from agent_broker.kernel.bcc.sensor import BccSensor
from agent_broker.lineage.store import Store
from tests.kernel.test_bcc_headers import Shared, loaded_programs
from tests.kernel.test_sensor import (
    test_a_chain_of_execs_is_one_process,  # noqa: F401 - collected here
    test_a_dead_processs_record_is_gone,  # noqa: F401
    test_a_fork_from_a_thread_belongs_to_the_whole_process,  # noqa: F401
    test_a_memfd_program_has_no_name,  # noqa: F401
    test_a_registered_files_environment_is_captured_whole_and_at_exec,  # noqa: F401
    test_a_started_process_has_a_complete_lineage_to_the_origin,  # noqa: F401
    test_an_exec_that_is_traced_by_others_than_root_is_tainted,  # noqa: F401
    test_double_fork_and_setsid_keep_the_origin,  # noqa: F401
    test_every_way_to_start_a_process_is_seen,  # noqa: F401
    test_exec_from_a_thread_that_is_not_the_leader_keeps_the_process,  # noqa: F401
    test_many_descriptors_are_looked_up_in_one_walk,  # noqa: F401
    test_the_holders_of_a_socket_are_all_who_have_it_open,  # noqa: F401
    test_the_other_end_of_a_unix_connection_is_found_in_another_network_namespace,  # noqa: F401
    test_the_record_names_the_executables_file,  # noqa: F401
)


@pytest.fixture(scope="module", autouse=True)
def without_btf():
    subprocess.run(["/bin/mount", "-t", "tmpfs", "none", str(headers.BTF.parent)], check=True)
    yield
    subprocess.run(["/bin/umount", str(headers.BTF.parent)], check=True)


@pytest.fixture(scope="module")
def loaded(without_btf):
    store = Store(scan_strings, str)
    sensor = BccSensor(store.apply)
    store.link_seeded()
    yield store, sensor
    sensor.close()


@pytest.fixture
def watched(loaded):
    watched = Shared(*loaded)
    yield watched
    watched.end_all()


def test_the_kernel_tells_no_types_and_nothing_that_needs_them_is_loaded(loaded):
    with pytest.raises(UnavailableError, match="tells no types"):
        KernelTypes()
    assert loaded[1].offsets == "headers"
    assert loaded_programs(loaded[1]._programs) == {"raw_tracepoint"}
    assert "memory" not in loaded[1].missing


def test_headers_of_another_configuration_are_found_out(tmp_path):
    real = Path("/lib/modules") / os.uname().release
    made = tmp_path / "lib/modules" / os.uname().release
    shutil.copytree(real / "build/include/generated", made / "build/include/generated")
    for part in ("build/arch", "source"):
        (made / part).symlink_to((real / part).resolve())
    config = made / "build/include/generated/autoconf.h"
    config.write_text(config.read_text().replace("#define CONFIG_SCHEDSTATS 1\n", ""))

    with pytest.raises(UnavailableError, match="reads wrong fields on this kernel"):
        BccSensor(lambda _: None, root=tmp_path)
