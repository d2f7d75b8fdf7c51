"""Steps 3 and 7: into the broker, and back."""

import difflib
import itertools
import json
import time

from tests.demo.check import require
from tests.demo.claude_home import CREDENTIALS, SETTINGS, STATE
from tests.demo.machine import run_tool
from tests.demo.memory import grep
from tests.demo.processes import broker_command
from tests.demo.show import Show
from tests.demo.snapshot import Changes, compare, take_snapshot
from tests.demo.world import World

_TABLE_COLUMNS = 76
_TEN_YEARS_S = 10 * 365 * 24 * 3600
_CLAUDES_OWN = (STATE, ".claude/backups/", ".claude/projects/", ".claude/telemetry/", ".claude/sessions")
"""What Claude itself rewrites at every run."""


def enroll(world: World, show: Show) -> str:
    """Move the secrets, and prove that they are gone from where they were."""
    show.command("agent-broker enroll claude --user … --home … --yes")
    printed = _migrate(world, show, "enroll", "--binary", str(world.home / ".local/bin/claude"))
    show.quote(itertools.takewhile(lambda line: not line.startswith("  binary"), _lines(printed)))
    show.fact("binary", _require_binary(world))
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
    _migrate(world, show, "unenroll")
    changes = compare(world.before, take_snapshot(world.home))
    for path in (SETTINGS, CREDENTIALS):
        require(path in changes.same, f"~/{path} as it was: bytes, mode, owner, time", changes.changed.get(path))
    foreign = {path: what for path, what in changes.changed.items() if not path.startswith(_CLAUDES_OWN)}
    require(not foreign, "every other file as it was", foreign)
    kept = _require_state_kept(world)
    new = [path for path in changes.new if not path.startswith((".claude/", ".cache/"))]
    require(not new, "nothing new in the home but Claude's own files", new)
    _show_comparison(show, changes, kept)
    agents = json.loads(broker_command(world.root, "agents", "--json"))
    credentials = json.loads(broker_command(world.root, "credentials", "--json"))
    require(not agents and not credentials, "nothing left of the enrolment", f"{agents} {credentials}")
    show.fact("broker", "0 agents, 0 credentials")
    return "the home is as it was, byte for byte"


def _lines(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.strip()]


def _require_binary(world: World) -> str:
    """Require that the executable is registered by its hash, as sha256sum computes it; return a sentence."""
    program = world.agent.program.resolve()
    wanted = run_tool("sha256sum", str(program)).split()[0]
    enrolled = broker_command(world.root, "agents", "--json")
    require(wanted in enrolled, f"the hash of {program} in the registry", enrolled)
    return f"{program.stat().st_size / 1e6:.0f} MB, sha256 {wanted[:16]}…: registered"


def _migrate(world: World, show: Show, command: str, *options: str) -> str:
    whose = ("--user", world.user.pw_name, "--home", str(world.home))
    terminal = show.console.is_terminal and not show.console.record
    return broker_command(
        world.root, command, "claude", *whose, *options, "--yes", columns=_TABLE_COLUMNS, show_progress=terminal
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
    before = world.settings_text.splitlines(keepends=True)
    after = (world.home / SETTINGS).read_text().splitlines(keepends=True)
    blocks = [each for each in difflib.SequenceMatcher(None, before, after).get_opcodes() if each[0] != "equal"]
    removed = [line.strip() for _, start, end, _, _ in blocks for line in before[start:end]]
    foreign = [line for line in removed if "ANTHROPIC_API_KEY" not in line and line not in "".join(after)]
    require(not foreign, "the user's other settings to be kept byte for byte", foreign)
    added = sum(end - start for _, _, _, start, end in blocks)
    print(removed, [after[s:e] for _, _, _, s, e in blocks])
    return f"{len(removed)} line gone, {added} new, {len(before) - len(removed)} kept byte for byte"


def _require_state_kept(world: World) -> int:
    """~/.claude.json is rewritten by Claude at each run: the user's members must all be there as they were."""
    before = json.loads(world.state_text)
    after = json.loads((world.home / STATE).read_text())
    counted = {"numStartups", "tipsHistory", "pluginUsage"}
    lost = [name for name in before if name not in counted and before[name] != after.get(name)]
    require(not lost, f"the user's settings in ~/{STATE} as they were", lost)
    return len(before)


def _show_comparison(show: Show, changes: Changes, kept: int) -> None:
    show.fact("same", "settings.json, .credentials.json: content, mode, owner, modification time")
    show.fact("", f"{len(changes.same)} of {len(changes.same) + len(changes.changed)} files and folders in all")
    rest = ", ".join(f"~/{path}" for path in changes.changed) or "none"
    show.fact("Claude's", f"rewritten by its own runs: {rest} (its {kept} members checked)")
