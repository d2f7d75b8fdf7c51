"""These tests need a kernel with BPF LSM: ``make test-vm`` boots one and runs them there; elsewhere there are none."""

import os

collect_ignore_glob = {"tests": ["unlisted"], "unlisted": ["test_*.py"]}.get(
    os.environ.get("IN_TEST_VM", ""), ["test_*.py", "unlisted"]
)
