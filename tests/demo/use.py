"""Step 4: the agent works, and what it works with is not in its hands."""

from tests.demo.check import require
from tests.demo.claude_home import masked
from tests.demo.memory import grep
from tests.demo.run_claude import finish, search_while_running
from tests.demo.show import Show
from tests.demo.world import World

_ANSWER = "I hold no key, and I answer all the same."
_EVENT_DELAY_S = 0.2  # six events an answer, two answers
_TOOL = "sleep 2"  # the agent has children meanwhile, and the turn lasts long enough to be searched
_PHANTOM = "phantom"


def use_the_agent(world: World, show: Show) -> str:
    """Run the agent; search all that it is while it runs."""
    world.provider.answers(_ANSWER, tool=_TOOL, delay_s=_EVENT_DELAY_S)
    before = len(world.provider.model_requests())
    show.command('claude -p "do you hold a key?"')
    agent = world.start_agent("do you hold a key?")
    seen = world.provider.wait_for_request(before)
    searched, passes = search_while_running(world, agent, {**world.keys.named(), _PHANTOM: world.phantom})
    said = finish(agent)
    require(_ANSWER in said, f"the answer {_ANSWER!r}", said)
    real = seen.get("x-api-key") == world.keys.api_key
    require(real, "the provider to see the real key", {name: value[:13] for name, value in seen.items()})
    require(world.phantom not in " ".join(seen.values()), "the phantom to stay on this machine", sorted(seen))
    show.quote([said], "bold")
    show.fact("provider", f"saw x-api-key: {masked(world.keys.api_key)}, the real one")
    require(passes > 0, "to search the agent while it runs", "it ended too early")
    require(agent.pid in searched.processes, f"the agent's memory (pid {agent.pid})", searched.processes)
    require(_PHANTOM in searched.found, "the search to find what must be there: the phantom", searched.found)
    leaks = {name: places for name, places in searched.found.items() if name != _PHANTOM}
    require(not leaks, "no secret in memory or environment of the agent's tree", leaks)
    require(len(searched.processes) > 1, "the agent to have children meanwhile", searched.processes)
    amount = f"{searched.bytes_read / 1e6:,.0f} MB of memory in {passes} passes, {len(searched.processes)} environments"
    show.fact("searched", f"{amount}: the phantom is there, no secret is")
    left = grep(world.keys.named(), world.home, world.root / "var")
    require(not left, "the run to leave no secret in any file", left)
    show.fact("grep -r", "over the home and the daemons' state: nothing")
    return "same command, same answer, no secret in the agent's hands"
