"""Several accounts of the real Codex and Gemini, keys and logins: chosen by folder, or by ``run --as``."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.demo.agent import more_agents
from tests.demo.processes import broker_command, outcome
from tests.e2e.accounts.stage import TURN_S, Seen, Stage, account, give, plain
from tests.e2e.agents import codex, gemini
from tests.e2e.agents.client import Client, Login

_CODEX = "@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex"
_GEMINI = "@google/gemini-cli/bundle/gemini.js"
_SAY = "exec $0 phantom $1 $2"
Told = dict[str, object]


class Other:
    """One of the two agents, enrolled with one login beside Claude."""

    def __init__(self, stage: Stage, client: Client, program: str, login: Login) -> None:
        modules = more_agents() / "node_modules"
        self.stage, self.client = stage, client
        self.program = stage.world.root / "bin" / client.name
        if not self.program.is_symlink():
            self.program.symlink_to((modules / program).resolve())
        self.search = f"{modules}/node/bin:/usr/bin:/bin"
        home = stage.person.home
        for name, text in login.files.items():
            path = home / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(str(text))
            path.chmod(0o600)
            give(stage.person, path.parent, path)
        self.known("enrolled", login)
        whose = ("--user", stage.person.account.pw_name)
        where = ("--home", str(home), "--binary", str(self.program), "--as", "work", "--yes")
        broker_command(stage.world.root, "enroll", client.name, *whose, *where, search=self.search)

    def known(self, whose: str, login: Login) -> None:
        """Count a login's secrets among those that exist, and name what is sent of it."""
        self.stage.keys |= {f"{whose} {name}": value for name, value in login.secrets.items()}

    def folder(self, name: str) -> Path:
        """Make a folder of the user's."""
        made = self.stage.person.home / name
        made.mkdir(exist_ok=True)
        give(self.stage.person, made)
        return made

    def add(self, name: str, login: Login, kind: str, *folders: Path) -> str:
        """Add an account with the key, or the file, of a login; return what the command said."""
        self.known(name, login)
        text = login.files[self.client.decoy] if kind == "oauth" else login.secrets["API key"]
        words = [word for folder in folders for word in ("--dir", str(folder))]
        return account(self.stage, str(text), "add", self.client.name, name, "--kind", kind, *words)

    def turn(self, folder: Path | None = None) -> Told:
        """Type the agent's command."""
        return plain(self.stage.turn(*self._command(), folder=folder, PATH=self.search))

    def run(self, name: str, folder: Path | None = None) -> Told:
        """Type ``agent-broker run --as NAME`` before it."""
        return plain(self.stage.run("--as", name, *self._command(), folder=folder, PATH=self.search))

    def phantom(self, name: str) -> str:
        """Return an account's phantom: any process of the user's can have it."""
        process = self.stage.start("/bin/sh", "-c", _SAY, self.stage.world.shim, self.client.name, name)
        return outcome(process, TURN_S)[0].strip()

    def unenroll(self) -> None:
        """Undo the enrolment; its accounts go with it."""
        whose = ("--user", self.stage.person.account.pw_name, "--home", str(self.stage.person.home))
        broker_command(self.stage.world.root, "unenroll", self.client.name, *whose, "--yes", search=self.search)

    def _command(self) -> tuple[str, ...]:
        return self.client.command(self.program, "go on")


def codex_keys(stage: Stage) -> Told:
    """Codex by an API key; two accounts with folders: another key, and a ChatGPT login whose access token is over."""
    client = codex.Codex()
    agent = Other(stage, client, _CODEX, client.ways[codex.API_KEY]())
    private, chat = agent.folder("codex-private"), agent.folder("codex-chat")
    told: Told = {"unknown": agent.run("private")}
    decoy = str(json.loads((stage.person.home / client.decoy).read_text())["OPENAI_API_KEY"])
    told["decoy"] = account(stage, decoy, "add", "codex", "x")
    told["added"] = agent.add("private", client.ways[codex.API_KEY](), "api-key", private)
    told["added login"] = agent.add("chat", codex.login(), "oauth", chat)
    told["elsewhere"], told["inside"], told["login"] = agent.turn(), agent.turn(private), agent.turn(chat)
    told["as private"], told["as chat"] = agent.run("private"), agent.run("chat", private)
    told["as work"] = agent.run("work", chat)
    told |= _misused(stage, agent)
    account(stage, "", "remove", "codex", "private", "--yes")
    told["removed"] = agent.turn(private)
    told["credentials"] = [each["id"] for each in json.loads(broker_command(stage.world.root, "credentials", "--json"))]
    agent.unenroll()
    return told


def _misused(stage: Stage, agent: Other) -> Told:
    """Use an account's phantom as another program, and one of Claude's in the genuine Codex; then a removed one's."""
    phantom, claudes = agent.phantom("chat"), stage.phantom_of(stage.person)
    told: Told = {"replayed": plain(stage.replay(phantom))}
    stage.thaw()
    settings = ('env_key="STOLEN"', "request_max_retries=0", "stream_max_retries=0")
    options = [word for each in settings for word in ("-c", f"model_providers.agent-broker.{each}")]
    command = (agent.program, *options, *agent.client.command(agent.program, "go on")[1:])
    told["claude's in codex"] = plain(stage.turn(*command, PATH=agent.search, STOLEN=claudes))
    stage.thaw()
    told["codex's in claude"] = plain(_claude_with(stage, phantom))
    stage.thaw()
    account(stage, "", "remove", "codex", "chat", "--yes")
    told["of a removed one"] = plain(stage.turn(*command, PATH=agent.search, STOLEN=phantom))
    return told


def _claude_with(stage: Stage, phantom: str) -> Seen:
    return stage.claude(
        ANTHROPIC_UNIX_SOCKET=str(stage.socket),
        ANTHROPIC_BASE_URL="http://agent-broker.invalid",
        ANTHROPIC_AUTH_TOKEN=phantom,
    )


def gemini_keys(stage: Stage) -> Told:
    """Gemini by an API key, then by a Google login; accounts of both sorts."""
    key, login = gemini.Gemini.ways[gemini.API_KEY], gemini.Gemini.ways[gemini.GOOGLE]
    return {
        "key": _gemini(stage, key, ("api-key", key), ("oauth", login)),
        "login": _gemini(stage, login, ("oauth", login), ("api-key", key)),
    }


def _gemini(
    stage: Stage,
    own: Callable[[], Login],
    same: tuple[str, Callable[[], Login]],
    other: tuple[str, Callable[[], Login]],
) -> Told:
    agent = Other(stage, gemini.Gemini(), _GEMINI, own())
    private = agent.folder("gemini-private")
    told: Told = {"added": agent.add("private", same[1](), same[0], private)}
    told["other by folder"] = agent.add("other", other[1](), other[0], agent.folder("gemini-other"))
    told["added other"] = agent.add("other", other[1](), other[0])
    told["other assigned"] = account(
        stage, "", "assign", "gemini", "other", "--dir", str(private.parent / "gemini-other")
    )
    told["inside"], told["as other"] = agent.turn(private), agent.run("other", private)
    if same[0] == "api-key":
        told["elsewhere"], told["as work"] = agent.turn(), agent.run("work", private)
    agent.unenroll()
    for name in (".env", "oauth_creds.json", "settings.json"):
        (stage.person.home / ".gemini" / name).unlink(missing_ok=True)
    return told
