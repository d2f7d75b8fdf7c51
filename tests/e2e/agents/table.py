"""All rows, in the order in which they are measured: those of one installation are together."""

from msgspec import structs

from tests.e2e.agents import acts, attacks, codex, gemini, logins, repository
from tests.e2e.agents.claude import OUT_OF_DATE, Claude
from tests.e2e.agents.claude_clouds import PAIR, SERVICE_ACCOUNT
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
    WayRow(CODEX, "native", codex.ENV_FILE),
    WayRow(CODEX, "native", codex.PROFILE),
    WayRow(CODEX, "npm, Node 24", codex.CHATGPT),
    WayRow(GEMINI, "npm, Node 20", gemini.API_KEY),
    WayRow(GEMINI, "npm, Node 20", gemini.PROFILE),
    WayRow(GEMINI, "npm, Node 20", gemini.HOME_ENV),
    WayRow(GEMINI, "npm, Node 24", gemini.STORED_KEY),
    WayRow(GEMINI, "npm, Node 24", gemini.GOOGLE),
    *(WayRow(GEMINI, "npm, Node 24", way) for way in (gemini.VERTEX_KEY, gemini.VERTEX_ADC, gemini.VERTEX_ACCOUNT)),
)

_CODE = "its user's own code is loaded into it"
_RUNS_TOOL = "it runs a tool and tells the model what came of it"
_MONITOR = "the monitor is restarted in the middle of a turn"
_ENDED = "the provider has ended its login"
_OLD = "its access token is out of date"
_BY_TOOL, _BY_STRANGER = "a tool of it uses its phantom", "another process of its user uses the phantom"
_REPLAYED = "refused (403), alert phantom-replayed"
_CHANGED = "its executable is changed where it lies"
_UPDATED = "it is updated"
_BY_COMMAND = "it is started by `agent-broker run`, with variables that lead elsewhere"
_STREAMED = "its answer is streamed"
_REPOSITORY = "it works in a repository whose settings name commands for its logins, and another address"
_AT_CLOUD = (_STREAMED, _BY_COMMAND, _BY_TOOL, _BY_STRANGER)
"""What is done again where the broker signs, or mints."""


def _life(client: Client, layout: str, way: str) -> tuple[DeedRow, ...]:
    """What is done with every agent, in one enrolment; the update comes last, since it changes the installation."""
    opened = "credential-opened" if client is GEMINI else "decoy-opened"
    told = (
        (_STREAMED, acts.stream, "piece by piece"),
        (_RUNS_TOOL, acts.run_tool, "works"),
        (_BY_COMMAND, acts.start_by_command, "works"),
        (_BY_TOOL, attacks.use_by_tool, _REPLAYED),
        (_BY_STRANGER, attacks.use_by_stranger, _REPLAYED),
        (_CODE, attacks.taint, f"refused, alert agent-tainted, {opened}"),
        (_CHANGED, attacks.tamper, f"refused, alert agent-updated, {opened}"),
        ("the broker is restarted in the middle of a turn", acts.restart_broker, "works"),
        (_MONITOR, acts.restart_monitor, "refused; started anew: works"),
        (_UPDATED, acts.update, f"refused, alert agent-updated, {opened}; approved: works"),
    )
    return tuple(DeedRow(client, layout, way, what, act, expected) for what, act, expected in told)


def _replayed(client: Client, layout: str, way: str) -> tuple[DeedRow, ...]:
    """What is tried with the phantom of another login than that of ``_life``."""
    tries = ((_BY_TOOL, attacks.use_by_tool), (_BY_STRANGER, attacks.use_by_stranger))
    return tuple(DeedRow(client, layout, way, what, act, _REPLAYED) for what, act in tries)


def _at_cloud(way: str, where: str) -> tuple[DeedRow, ...]:
    rows = (row for row in _life(CLAUDE, "native", way) if row.what in _AT_CLOUD)
    return tuple(structs.replace(row, what=f"at {where}, {row.what}") for row in rows)


def _in_repository(way: str, ran: str) -> DeedRow:
    expected = f"{ran} ran, got no secret; refused (403), alert decoy-opened, phantom-replayed"
    return DeedRow(CLAUDE, "native", way, _REPOSITORY, repository.follow_repository, expected)


DEEDS: tuple[DeedRow, ...] = (
    *_life(CLAUDE, "native", "API key, settings `env`"),
    _in_repository("API key, settings `env`", "apiKeyHelper"),
    *_at_cloud(PAIR, "Bedrock"),
    DeedRow(CLAUDE, "native", PAIR, "at Bedrock, it works in the folder of another account", acts.use_another_account,
            "works"),
    _in_repository(PAIR, "apiKeyHelper, awsAuthRefresh, awsCredentialExport"),
    *_at_cloud(SERVICE_ACCOUNT, "Vertex AI"),
    _in_repository(SERVICE_ACCOUNT, "apiKeyHelper, gcpAuthRefresh"),
    DeedRow(CLAUDE, "npm", OUT_OF_DATE, _OLD, logins.refresh, logins.AND_WORKS),
    DeedRow(CLAUDE, "npm", OUT_OF_DATE, _ENDED, logins.revoke, "refused, alert login-ended", enrolled_anew=True),
    *(row for row in _life(CODEX, "npm, Node 24", codex.API_KEY) if row.what != _CODE),
    DeedRow(CODEX, "native", codex.API_KEY, "it tries a WebSocket first, led to the broker by `openai_base_url`",
            codex.ask_by_websocket, "works"),
    DeedRow(CODEX, "native", codex.API_KEY, "a debugger of its user's attaches to it", attacks.debug,
            "refused, alert agent-tainted, agent-tampered"),
    *_replayed(CODEX, "native", codex.CHATGPT),
    DeedRow(CODEX, "native", codex.OUT_OF_DATE, _OLD, logins.refresh, logins.AND_WORKS),
    DeedRow(CODEX, "native", codex.OUT_OF_DATE, _ENDED, logins.revoke, "refused, alert login-ended",
            enrolled_anew=True),
    *_life(GEMINI, "npm, Node 24", gemini.API_KEY),
    *_replayed(GEMINI, "npm, Node 24", gemini.GOOGLE),
    DeedRow(GEMINI, "npm, Node 24", gemini.OUT_OF_DATE, _OLD, logins.refresh, logins.REFRESHED),
    DeedRow(GEMINI, "npm, Node 24", gemini.OUT_OF_DATE, _ENDED, logins.revoke, "refused, alert login-ended",
            enrolled_anew=True),
)  # fmt: skip
