"""Step 4: the agent works, and what it works with is not in its hands."""

from tests.demo.check import require
from tests.demo.claude_home import masked
from tests.demo.memory import grep
from tests.demo.run_claude import finish, search_while_running
from tests.demo.show import Show
from tests.demo.world import World

_ANSWER = "I hold no key, and I answer all the same."
_EVENT_DELAY_S = 0.2  # six events an answer, two answers: it is searched while they come
_PHANTOM = "phantom"


def use_the_agent(world: World, show: Show) -> str:
    """Run the agent; search all that it is while it runs."""
    searched_tools = world.root / "searched"
    tool = f"until test -e {searched_tools}; do sleep 0.2; done"
    world.provider.answers(_ANSWER, tool=tool, delay_s=_EVENT_DELAY_S)
    before = len(world.provider.model_requests())
    show.command('claude -p "do you hold a key?"')
    agent = world.start_agent("do you hold a key?")
    secrets = {**world.keys.named(), _PHANTOM: world.phantom}
    searched, passes = search_while_running(world, agent, secrets, searched_tools)
    said = finish(agent)
    require(_ANSWER in said, f"the answer {_ANSWER!r}", said)
    seen = world.provider.model_requests()[before]
    real = seen.get("x-api-key") == world.keys.api_key
    require(real, "the provider to see the real key", {name: value[:13] for name, value in seen.items()})
    require(world.phantom not in " ".join(seen.values()), "the phantom to stay on this machine", sorted(seen))
    show.quote([said], "bold")
    show.fact("provider", f"saw x-api-key: {masked(world.keys.api_key)}, the real one")
    sees = f"memory of process {agent.pid}" in searched.found.get(_PHANTOM, ())
    require(sees, "the search to find what must be there: the phantom in the agent's memory", searched.found)
    leaks = {name: places for name, places in searched.found.items() if name != _PHANTOM}
    require(not leaks, "no secret in memory or environment of the agent's tree", leaks)
    require(searched_tools.exists(), "the agent's tool to be searched while it runs", searched.processes)
    amount = f"memory ({searched.bytes_read / 1e6:,.0f} MB in {passes} passes)"
    show.fact("searched", f"{amount}, {len(searched.processes)} environments: only the phantom")
    left = grep(world.keys.named(), world.home, world.root / "var")
    require(not left, "the run to leave no secret in any file", left)
    show.fact("grep -r", "over the home and the daemons' state: nothing")
    return "same command, same answer, no secret in the agent's hands"
