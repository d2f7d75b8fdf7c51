"""The contract of the kernel side (tests/kernel/test_sensor.py) on Debian's kernel too, for both backends.

One sensor for all tests of a backend: the guest's processor is emulated, and compiling takes its time.
"""

import pytest

from agent_broker.identity.environment import scan_strings
from agent_broker.lineage.store import Store
from tests.fakes.backends import BACKENDS
from tests.kernel.test_bcc_headers import Shared
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


@pytest.fixture(scope="module", params=BACKENDS)
def loaded(request):
    store = Store(scan_strings, str)
    sensor = BACKENDS[request.param](store.apply)
    store.link_seeded()
    yield store, sensor
    sensor.close()


@pytest.fixture
def watched(loaded):
    watched = Shared(*loaded)
    yield watched
    watched.end_all()
