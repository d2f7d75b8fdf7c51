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
    WayRow(CODEX, "npm, Node 24", codex.CHATGPT),
    WayRow(GEMINI, "npm, Node 20", gemini.API_KEY),
    WayRow(GEMINI, "npm, Node 24", gemini.STORED_KEY),
    WayRow(GEMINI, "npm, Node 24", gemini.GOOGLE),
)

_CODE = "its user's own code is loaded into it"
_RUNS_TOOL = "it runs a tool and tells the model what came of it"
_MONITOR = "the monitor is restarted in the middle of a turn"
_ENDED = "the provider has ended its login"
_OLD = "its access token is out of date"
_CHANGED = "its executable is changed where it lies"
_UPDATED = "it is updated"
_NOT_AGAIN = (_RUNS_TOOL, _MONITOR, _CHANGED, _UPDATED)
"""What is left out for Gemini, whose start takes seconds; a tool runs in each of its ways."""


def _life(client: Client, layout: str, way: str) -> tuple[DeedRow, ...]:
    """What is done with every agent, in one enrolment; the update comes last, since it changes the installation."""
    replayed = "refused (403), alert phantom-replayed"
    opened = "credential-opened" if client is GEMINI else "decoy-opened"
    told = (
        ("its answer is streamed", acts.stream, "piece by piece"),
        (_RUNS_TOOL, acts.run_tool, "works"),
        ("a tool of it uses its phantom", attacks.use_by_tool, replayed),
        ("another process of its user uses the phantom", attacks.use_by_stranger, replayed),
        (_CODE, attacks.taint, f"refused, alert agent-tainted, {opened}"),
        (_CHANGED, attacks.tamper, f"refused, alert agent-updated, {opened}"),
        ("the broker is restarted in the middle of a turn", acts.restart_broker, "works"),
        (_MONITOR, acts.restart_monitor, "refused; started anew: works"),
        (_UPDATED, acts.update, f"refused, alert agent-updated, {opened}; approved: works"),
    )
    return tuple(DeedRow(client, layout, way, what, act, expected) for what, act, expected in told)


DEEDS: tuple[DeedRow, ...] = (
    *_life(CLAUDE, "native", "API key, settings `env`"),
    DeedRow(CLAUDE, "npm", OUT_OF_DATE, _OLD, logins.refresh, logins.AND_WORKS),
    DeedRow(CLAUDE, "npm", OUT_OF_DATE, _ENDED, logins.revoke, "refused, alert login-ended", enrolled_anew=True),
    *(row for row in _life(CODEX, "npm, Node 24", codex.API_KEY) if row.what != _CODE),
    DeedRow(CODEX, "native", codex.API_KEY, "a debugger of its user's attaches to it", attacks.debug,
            "refused, alert agent-tainted, agent-tampered"),
    DeedRow(CODEX, "native", codex.OUT_OF_DATE, _OLD, logins.refresh, logins.AND_WORKS),
    DeedRow(CODEX, "native", codex.OUT_OF_DATE, _ENDED, logins.revoke, "refused, alert login-ended",
            enrolled_anew=True),
    *(row for row in _life(GEMINI, "npm, Node 24", gemini.API_KEY) if row.what not in _NOT_AGAIN),
    DeedRow(GEMINI, "npm, Node 24", gemini.OUT_OF_DATE, _OLD, logins.refresh, logins.REFRESHED),
)  # fmt: skip
