"""Variables that would taint the agent: which the operator lets through, and which are set and will be refused.

An allowance is for exactly one value. The registry keeps its digest only; the plan shows the value, which is the
operator's own. What the profiles and the session say is for warnings: it decides nothing.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent_broker.enroll.profile import Export
from agent_broker.errors import MisuseError
from agent_broker.identity.environment import MAX_NAME_LENGTH, allow, danger
from agent_broker.identity.registry import Allowance
from agent_broker.ids import AgentName


@dataclass(frozen=True)
class PlannedAllowance:
    """A variable that will not taint the agent if it has exactly this value."""

    name: str
    value: str
    why: str
    """What it does to the agent."""

    @property
    def allowance(self) -> Allowance:
        """Return what the registry keeps."""
        return allow(os.fsencode(self.name), os.fsencode(self.value))


def parse_allowances(words: Iterable[str], agent: AgentName, runtimes: tuple[str, ...]) -> tuple[PlannedAllowance, ...]:
    """Return what ``--allow-env`` names, each once.

    Args:
        words: ``NAME=VALUE`` each; the value may be empty.
        agent: whose, for messages.
        runtimes: who reads the agent's environment.

    Raises:
        MisuseError: a word without a value, or a variable that needs no allowance.
    """
    planned: dict[PlannedAllowance, None] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise MisuseError(
                f"--allow-env {name} names no value: with any value allowed, anybody could load anything into {agent}",
                next_step=f"name the one value that your set-up needs: --allow-env {name}=VALUE",
            )
        why = danger(name, runtimes)
        if not why or len(name) > MAX_NAME_LENGTH:
            raise MisuseError(
                f"{name or 'a variable without a name'} needs no allowance: it loads no code into {agent}",
                next_step="leave this --allow-env out; docs/environment.md lists what needs one",
            )
        planned[PlannedAllowance(name, value, why)] = None
    return tuple(planned)


def warnings_of(
    exports: Iterable[Export], agent: AgentName, runtimes: tuple[str, ...], planned: Iterable[PlannedAllowance]
) -> Iterator[str]:
    """Yield a sentence for each place that sets a variable for which the broker will refuse the agent.

    Args:
        exports: what is set; a value that is not known counts as the allowed one.
        agent: whose, for messages.
        runtimes: who reads the agent's environment.
        planned: what is let through.
    """
    allowances = [each.allowance for each in planned]
    names = {each.name for each in allowances}
    for export in exports:
        why = danger(export.name, runtimes)
        if not why:
            continue
        if export.name not in names:
            yield (
                f"{export.place}: {export.name} is set, and the broker refuses {agent} with it: {why}; remove it, or "
                f"add --allow-env {export.name}=VALUE with exactly its value"
            )
        elif export.value is not None and allow(os.fsencode(export.name), os.fsencode(export.value)) not in allowances:
            yield (
                f"{export.place}: {export.name} has another value than the allowed one, and the broker refuses {agent} "
                f"with it: {why}"
            )
