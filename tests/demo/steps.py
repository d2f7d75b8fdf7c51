"""The seven steps of the main job. Each does one thing, requires what must hold, and shows its evidence."""

from collections.abc import Callable

from tests.demo.intrusion import replay_phantom, run_scanner
from tests.demo.migration import enroll, unenroll
from tests.demo.show import Show
from tests.demo.start import set_the_stage, show_daemons
from tests.demo.use import use_the_agent
from tests.demo.world import World

Step = Callable[[World, Show], str]
"""Returns the sentence beside the tick; raises StepFailedError."""

STEPS: tuple[tuple[str, Step], ...] = (
    ("Two daemons, two users, no privilege where the secrets are", show_daemons),
    ("A provider, and a home with a key and a login as users have them", set_the_stage),
    ("Enrolment: secrets into the vault, decoys in their place", enroll),
    ("The agent works as before, and holds no secret", use_the_agent),
    ("The agent is made to run a backdoored scanner", run_scanner),
    ("A stranger replays the agent's phantom token", replay_phantom),
    ("Unenrolment: the home as it was", unenroll),
)
