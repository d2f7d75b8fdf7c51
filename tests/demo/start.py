"""Steps 1 and 2: the daemons as they run, and the world that they find."""

import json

from tests.demo.attack import Attack
from tests.demo.check import require
from tests.demo.claude_home import CREDENTIALS, SETTINGS, masked
from tests.demo.memory import grep
from tests.demo.processes import Background, broker_command
from tests.demo.run_claude import ask
from tests.demo.show import Show
from tests.demo.snapshot import take_snapshot
from tests.demo.world import World

_NO_CAPABILITIES = "0" * 16


def show_daemons(world: World, show: Show) -> str:
    """Both run, as different users; the one that will hold the secrets can do nothing else."""
    monitor_uid, daemon_uid = _uid(world.monitor), _uid(world.daemon)
    require(monitor_uid == 0, "the monitor to run as root", f"uid {monitor_uid}")
    require(daemon_uid == world.account.pw_uid, f"the daemon to run as {world.account.pw_name}", f"uid {daemon_uid}")
    sets = {name: world.daemon.status(name) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh")}
    require(set(sets.values()) == {_NO_CAPABILITIES}, "the daemon to have no capability in any set", sets)
    diagnosis = json.loads(broker_command(world.root, "doctor", "--json"))
    require(diagnosis["healthy"], "agent-broker doctor to find all well", diagnosis["findings"])
    few = int(world.monitor.status("CapEff"), 16).bit_count()
    show.fact("monitor", f"pid {world.monitor.pid}, root, {few} capabilities: sees exec, fork and open")
    show.fact("daemon", f"pid {world.daemon.pid}, {world.account.pw_name} ({daemon_uid}): holds the vault")
    show.fact("", f"CapEff {sets['CapEff']}, and no other capability set either")
    show.fact("tier", f"{diagnosis['tier']}: {diagnosis['tier_means']}")
    return "both are ready, under a private root"


def set_the_stage(world: World, show: Show) -> str:
    """The provider answers; the agent works with its key on disk, where the intruder takes it."""
    show.fact("provider", f"{world.provider.base_url}, a mock of the Anthropic API")
    show.fact("~/.claude", f"settings.json with the API key {masked(world.keys.api_key)}")
    show.fact("", f".credentials.json with the login {masked(world.keys.access_token)}")
    attack = Attack(world)
    world.provider.answers("done", tool=attack.command("none"))
    before = len(world.provider.model_requests())
    said = ask(world, "check the dependencies", ANTHROPIC_BASE_URL=world.provider.base_url)
    require("done" in said, "the agent to work before enrolment", said)
    seen = world.provider.model_requests()[before]
    require(world.keys.api_key in seen.values(), "the provider to see the real key", sorted(seen))
    stolen = attack.stolen(world.keys.named())
    require(len(stolen) == len(world.keys.named()), "the intruder to take everything before enrolment", stolen)
    attack.clear()
    found = {str(path.relative_to(world.home)) for path in grep(world.keys.named(), world.home)}
    require(found == {SETTINGS, CREDENTIALS}, "grep to find the secrets in two files", found)
    world.before = take_snapshot(world.home)
    world.settings_text = (world.home / SETTINGS).read_text()
    show.command('claude -p "check the dependencies"')
    show.fact("stolen", f"{', '.join(stolen)}, by its Bash tool's scanner")
    return "so far, any tool that the agent runs takes its secrets"


def _uid(program: Background) -> int:
    uids = set(program.status("Uid").split())
    require(len(uids) == 1, f"the {program.name} to have one user for all purposes", uids)
    return int(uids.pop())
