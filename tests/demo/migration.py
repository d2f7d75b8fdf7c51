"""Steps 3 and 7: into the broker, and back."""

import itertools
import json
import time

from rich import filesize

from tests.demo.check import require
from tests.demo.claude_home import CREDENTIALS, SETTINGS
from tests.demo.machine import run_tool
from tests.demo.memory import grep
from tests.demo.processes import broker_command
from tests.demo.show import COLUMNS, Show
from tests.demo.snapshot import Snapshot, compare, take_snapshot
from tests.demo.world import World

_TEN_YEARS_S = 10 * 365 * 24 * 3600
_TOUCHED = (SETTINGS, CREDENTIALS)
_NEW_LINES = 2


def enroll(world: World, show: Show) -> str:
    """Move the secrets, and prove that they are gone from where they were."""
    show.command("agent-broker enroll claude --user … --home … --yes")
    printed = _migrate(world, show, "enroll", "--binary", str(world.home / ".local/bin/claude"))
    show.table(itertools.takewhile(lambda line: not line.startswith("  binary"), _lines(printed)))
    show.fact("binary", _require_binary(world))
    _require_only_two_files_changed(world.before, take_snapshot(world.home), "enrolment")
    world.phantom = _phantom(world)
    _require_decoys(world)
    show.fact("settings", _require_small_edit(world))
    secrets = world.keys.named()
    left = grep(secrets, world.home, world.root / "var", world.root / "etc", world.root / "run")
    require(not left, "no file in the home or the daemon's state to hold a secret", left)
    show.fact("grep -r", "over the home, and over all of the daemons' files: no secret left")
    return "the secrets are in the vault, and in no file"


def unenroll(world: World, show: Show) -> str:
    """Put everything back, and prove it by comparing with the snapshot of before."""
    show.command("agent-broker unenroll claude --user … --home … --yes")
    between = take_snapshot(world.home)
    _migrate(world, show, "unenroll")
    after = take_snapshot(world.home)
    _require_only_two_files_changed(between, after, "unenrolment")
    changes = compare(world.before, after)
    for path in _TOUCHED:
        require(path in changes.same, f"~/{path} as it was: bytes, mode, owner, time", changes.changed.get(path))
    show.fact("as before", "settings.json, .credentials.json: bytes, mode, owner, times")
    show.fact("compared", f"all {len(after)} files and folders: no other was ever touched")
    agents = json.loads(broker_command(world.root, "agents", "--json"))
    credentials = json.loads(broker_command(world.root, "credentials", "--json"))
    require(not agents and not credentials, "nothing left of the enrolment", f"{agents} {credentials}")
    journals = json.loads(broker_command(world.root, "audit", "verify", "--json"))
    entries = " and ".join(str(each["entries"]) for each in journals.values())
    show.fact("broker", f"0 agents, 0 credentials; both journals intact: {entries} entries")
    return "the home is as it was, byte for byte"


def _require_only_two_files_changed(before: Snapshot, after: Snapshot, what: str) -> None:
    changes = compare(before, after)
    require(set(changes.changed) == set(_TOUCHED), f"{what} to change {_TOUCHED}, and nothing else", changes.changed)
    require(not changes.new, f"{what} to leave no new file", changes.new)


def _lines(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.strip()]


def _require_binary(world: World) -> str:
    """Require that the executable is registered by its hash, as sha256sum computes it; return a sentence."""
    program = world.agent.program.resolve()
    wanted = run_tool("sha256sum", str(program)).split()[0]
    enrolled = broker_command(world.root, "agents", "--json")
    require(wanted in enrolled, f"the hash of {program} in the registry", enrolled)
    return f"{filesize.decimal(program.stat().st_size)}, sha256 {wanted[:16]}…: registered"


def _migrate(world: World, show: Show, command: str, *options: str) -> str:
    whose = ("--user", world.user.pw_name, "--home", str(world.home))
    terminal = show.console.is_terminal and not show.console.record
    return broker_command(
        world.root, command, "claude", *whose, *options, "--yes", columns=COLUMNS, show_progress=terminal
    )


def _phantom(world: World) -> str:
    env = json.loads((world.home / SETTINGS).read_text())["env"]
    phantom = str(env.get("ANTHROPIC_AUTH_TOKEN"))
    require(phantom.startswith("agent-broker-phantom-"), "a phantom token in settings.json", sorted(env))
    url = env.get("ANTHROPIC_BASE_URL")
    require(url == f"http://127.0.0.1:{world.port}", "settings.json to lead to the injection endpoint", url)
    return phantom


def _require_decoys(world: World) -> None:
    decoy = json.loads((world.home / CREDENTIALS).read_text())["claudeAiOauth"]
    for member, real in (("accessToken", world.keys.access_token), ("refreshToken", world.keys.refresh_token)):
        fake = decoy[member]
        alike = fake != real and len(fake) == len(real) and fake[:13] == real[:13]
        require(alike, f"a decoy of {member}'s shape", f"{fake[:13]}… of {len(fake)} characters")
    require(decoy["expiresAt"] / 1000 > time.time() + _TEN_YEARS_S, "a decoy that never expires", decoy["expiresAt"])


def _require_small_edit(world: World) -> str:
    """Require that all that was not touched is there byte for byte, and in its order; return a sentence."""
    before = world.settings_text.splitlines()
    after = (world.home / SETTINGS).read_text().splitlines()
    gone = [line for line in before if line not in after]
    new = [line for line in after if line not in before]
    comma = [line for line in gone if f"{line}," in new]
    kept = [line for line in before if line not in gone]
    foreign = [line for line in gone if line not in comma and "ANTHROPIC_API_KEY" not in line]
    require(not foreign, "the user's other settings to be kept byte for byte", foreign)
    require([line for line in after if line in before] == kept, "the user's settings in their order", "another order")
    require(len(new) - len(comma) == _NEW_LINES, "an address and a phantom as new settings", f"{len(new)} new lines")
    return f"1 line gone, {_NEW_LINES} new, {len(comma)} got a comma; {len(kept)} kept byte for byte"
