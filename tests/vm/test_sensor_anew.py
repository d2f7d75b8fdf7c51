"""Loss and restart of the contract on Debian's kernel too, with no other sensor beside."""

from tests.kernel.test_sensor_anew import (
    test_a_sensor_that_is_started_anew_knows_older_processes_and_loses_nothing_unsaid,  # noqa: F401 - collected here
)
