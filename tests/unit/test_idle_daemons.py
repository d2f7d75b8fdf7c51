"""What an idle daemon holds in memory: no library that only a request, a sink or a person needs."""

import json
import subprocess
import sys

import pytest

NEEDED_LATER = {
    "apprise",
    "botocore",
    "cel",
    "hvac",
    "jinja2",
    "opentelemetry",
    "pygments",
    "pyroute2",
    "rich",
    "tree_sitter_toml",
    "typer",
    "unittest",
    "yaml",
}
"""Top-level packages. What is loaded after the daemon has given up its rights must be readable by everybody."""

NO_NETWORK = {"aiohttp", "cryptography", "grpc", "keyring", "google"}


def loaded_with(module):
    """Return the top-level packages that importing a daemon's module loads in a fresh interpreter."""
    code = f"import json, sys, {module}; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(json.loads(said.stdout))


@pytest.mark.parametrize("module", ["agent_broker.monitor_main", "agent_broker.daemon.main"])
def test_what_an_idle_daemon_does_not_need_is_not_loaded(module):
    assert loaded_with(module) & NEEDED_LATER == set()


def test_the_monitor_loads_nothing_of_vault_and_network():
    loaded = loaded_with("agent_broker.monitor_main")

    assert "msgspec" in loaded
    assert loaded & NO_NETWORK == set()
