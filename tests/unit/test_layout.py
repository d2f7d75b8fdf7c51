"""Where state lies: one root moves all of it."""

from pathlib import Path

import pytest

from agent_broker.config.layout import Layout
from agent_broker.errors import MisuseError


def paths(layout: Layout) -> dict[str, Path]:
    names = [name for name, value in vars(Layout).items() if isinstance(value, property)]
    return {name: path for name in names if isinstance(path := getattr(layout, name), Path)}


def test_every_path_moves_with_the_root() -> None:
    real, moved = paths(Layout()), paths(Layout(Path("/tmp/r")))
    assert len(real) >= 18
    assert {name: Path("/tmp/r") / path.relative_to("/") for name, path in real.items()} == moved


def test_no_two_names_share_a_path() -> None:
    values = list(paths(Layout()).values())
    assert len(set(values)) == len(values)


def test_the_paths_that_others_rely_on() -> None:
    layout = Layout()
    assert layout.config_file == Path("/etc/agent-broker/config.toml")
    assert layout.registry_folder == Path("/var/lib/agent-broker/registry/agents")
    assert layout.registries == (layout.registry_folder, layout.tools_folder)
    assert layout.vault_file == Path("/var/lib/agent-broker/vault/vault.sqlite3")
    assert layout.admin_socket == Path("/run/agent-broker/admin.sock")


def test_option_beats_environment_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_BROKER_ROOT", "/env")
    assert Layout.from_environment(Path("/opt")).root == Path("/opt")
    assert Layout.from_environment().root == Path("/env")
    monkeypatch.setenv("AGENT_BROKER_ROOT", "")
    assert Layout.from_environment().root == Path("/")
    monkeypatch.delenv("AGENT_BROKER_ROOT")
    assert Layout.from_environment().root == Path("/")


def test_a_relative_root_is_fixed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    layout = Layout(Path("here"))
    monkeypatch.chdir("/")
    assert layout.root == tmp_path / "here"


def test_a_root_too_long_for_sockets_is_refused_with_its_bytes() -> None:
    longest = len("/run/agent-broker/monitor.sock")
    Layout(Path("/" + "é" * ((106 - longest) // 2)))
    with pytest.raises(MisuseError, match="would need 108 bytes"):
        Layout(Path("/" + "x" * (107 - longest)))
