"""All rows, in the order in which they are measured: those of one installation are together."""

from tests.e2e.agents import acts, attacks, codex, gemini, logins
from tests.e2e.agents.claude import OUT_OF_DATE, Claude
from tests.e2e.agents.client import Client
from tests.e2e.agents.codex import Codex
from tests.e2e.agents.gemini import Gemini
from tests.e2e.agents.row import DeedRow, WayRow

CLAUDE = Claude()
CODEX = Codex()
GEMINI = Gemini()

WAYS: tuple[WayRow, ...] = (
    *(WayRow(CLAUDE, "native", way) for way in CLAUDE.ways),
    *(WayRow(CLAUDE, "npm", way) for way in ("API key, settings `env`", "OAuth login")),
    *(WayRow(CODEX, layout, codex.API_KEY) for layout in CODEX.layouts),
    *(WayRow(GEMINI, layout, gemini.API_KEY) for layout in GEMINI.layouts),
    WayRow(GEMINI, "npm, Node 24", gemini.STORED_KEY),
)


def _life(client: Client, layout: str, way: str) -> tuple[DeedRow, ...]:
    """What is done with every agent, in one enrolment; the update comes last, since it changes the installation."""
    told = (
        ("its answer is streamed", acts.stream, "piece by piece"),
        ("it runs a tool and tells the model what came of it", acts.run_tool, "works"),
        ("a tool of it uses its phantom", attacks.use_by_tool, "refused (403), alert phantom-replayed"),
        (
            "another process of its user uses the phantom",
            attacks.use_by_stranger,
            "refused (403), alert phantom-replayed",
        ),
        ("its user's own code is loaded into it", attacks.taint, "refused, alert agent-tainted, decoy-opened"),
        ("its executable is changed where it lies", attacks.tamper, "refused, alert agent-updated, decoy-opened"),
        ("the broker is restarted in the middle of a turn", acts.restart_broker, "works"),
        ("the monitor is restarted in the middle of a turn", acts.restart_monitor, "refused; started anew: works"),
        ("it is updated", acts.update, "refused, alert agent-updated, decoy-opened; approved: works"),
    )
    return tuple(DeedRow(client, layout, way, what, act, expected) for what, act, expected in told)


_ENDED = "the provider has ended its login"

DEEDS: tuple[DeedRow, ...] = (
    *_life(CLAUDE, "native", "API key, settings `env`"),
    DeedRow(CLAUDE, "npm", OUT_OF_DATE, "its access token is out of date", logins.refresh, logins.REFRESHED),
    DeedRow(CLAUDE, "npm", OUT_OF_DATE, _ENDED, logins.revoke, "refused, alert none", enrolled_anew=True),
    *_life(CODEX, "npm, Node 24", codex.API_KEY),
    *_life(GEMINI, "npm, Node 24", gemini.API_KEY),
)
