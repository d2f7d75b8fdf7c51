"""These tests need a kernel with BPF LSM: ``make test-vm`` boots one and runs them there; elsewhere there are none."""

import os

collect_ignore_glob = [] if os.environ.get("IN_TEST_VM") == "1" else ["test_*.py"]
