"""The place of the attacks: the demo's world with both daemons, an agent that its user can write, the programs."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.demo.agent import REAL, VERSION
from tests.demo.claude_home import CREDENTIALS, SETTINGS
from tests.demo.machine import run_tool
from tests.demo.processes import broker_command
from tests.demo.world import World, private_world
from tests.e2e.attacks.alert_log import AlertLog
from tests.e2e.attacks.more import MoreAgents, give_to_user, install_more
from tests.e2e.attacks.other_account import OtherAccount, add_other
from tests.e2e.attacks.row import CLAUDE
from tests.e2e.clients.row import Client, Stand
from tests.e2e.clients.world import Clients

_PROGRAMS = Path(__file__).with_name("programs")
_C_FLAGS = ("-O2", "-Wall", "-Wextra")


class Arena:
    """See the module. Made by ``arena``."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.place = Clients(world)
        """Who asks at tools' servers."""
        self.folder = world.home / "attacks"
        self.agent = world.home / ".local/bin/claude"
        """What the user types; a link to the file that is enrolled."""
        self.settings: dict[str, str] = {}
        """What attacks on Claude Code are told."""
        self.secrets: dict[str, str] = world.keys.named()
        """Every real key, by name."""
        self.phantoms: dict[str, str] = {}
        """By agent."""
        self.more: MoreAgents | None = None
        self.account: OtherAccount | None = None
        self.ssh: Path | None = None
        """The public half of the user's SSH key, once ssh is enrolled."""
        self.undo = contextlib.ExitStack()
        self._tools: dict[str, Stand] = {}
        self._rules = ""
        self.alerts: AlertLog
        self.tier = ""

    def program(self, name: str) -> Path:
        """Return one of the attackers' programs."""
        return self.folder / name

    def answers(self, replies: dict[str, str], tool: str = "", delay_s: float = 0.0) -> None:
        """Decide what the model answers: ``replies`` to requests that contain their key, else perhaps a tool call."""
        mode = self.world.root / "provider/mode.json"
        new = mode.with_suffix(".next")
        new.write_text(json.dumps({"answer": "well done", "tool_cmd": tool, "replies": replies, "delay_s": delay_s}))
        new.replace(mode)

    def have_more(self) -> MoreAgents:
        """Return Codex and Gemini, installed and enrolled when they are first needed."""
        if self.more is None:
            self.more = install_more(self.world)
            self.secrets |= {f"{name}'s key": told["key"] for name, told in self.more.told.items()}
            self.phantoms |= {name: told["phantom"] for name, told in self.more.told.items()}
        return self.more

    def have_account(self) -> OtherAccount:
        """Return a second account of Claude Code's, added when it is first needed."""
        if self.account is None:
            self.account = add_other(self.world)
            self.secrets["other account's key"] = self.account.key
            self.phantoms["other account"] = self.account.phantom
        return self.account

    def have_ssh(self) -> Path:
        """Return the public half of a key of the user's, whose private half was enrolled when it was first needed."""
        if self.ssh is None:
            folder = self.world.home / ".ssh"
            folder.mkdir(mode=0o700)
            run_tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "id_ed25519"))
            self.secrets["SSH key"] = (folder / "id_ed25519").read_text().splitlines()[-3]
            give_to_user(self.world, folder)
            whose = ("--user", self.world.user.pw_name, "--home", str(self.world.home))
            broker_command(self.world.root, "enroll", "ssh", *whose, "--yes")
            self.ssh = folder / "id_ed25519.pub"
        return self.ssh

    def have_tool(self, client: Client) -> Stand:
        """Return a tool at its server, enrolled and allowed to the agent there, when it is first needed."""
        if client.tool not in self._tools:
            place, broker = self.place, self.world.daemon
            stand = self.undo.enter_context(client.stand(place))
            if self.world.daemon is not broker:
                self.alerts.follow_again()
            self.secrets |= {f"{client.tool}'s secret {number}": each for number, each in enumerate(stand.secrets)}
            if client.enroll is None:
                place.enroll(client.tool, *map(stand.filled, client.options))
            else:
                client.enroll(place, stand)
            self.allow(stand.filled(client.rules))
            self._tools[client.tool] = stand
        return self._tools[client.tool]

    def allow(self, rules: str) -> None:
        """Put these rules in force, beside those that are."""
        self._rules += rules
        self.place.allow(self._rules)

    def provider_log(self) -> list[str]:
        """Return the provider's requests so far, a line of JSON each."""
        log = self.world.root / "provider/requests.jsonl"
        return log.read_text().rpartition("\n")[0].splitlines() if log.exists() else []


@contextlib.contextmanager
def arena() -> Iterator[Arena]:
    """Make the place, with the real agent enrolled and at work; in the end nothing of it is left.

    Raises:
        StepFailedError: something of it can't be made here.
    """
    with private_world(REAL) as world:
        made = Arena(world)
        _install_agent(made)
        _compile(made)
        broker_command(
            world.root,
            *("enroll", "claude", "--user", world.user.pw_name, "--home", str(world.home)),
            *("--binary", str(made.agent), "--yes"),
        )
        made.tier = str(json.loads(broker_command(world.root, "doctor", "--json"))["tier"])
        made.settings = _settings(made)
        made.alerts = AlertLog(world.root, world.root / "logs", world.home / CREDENTIALS)
        with contextlib.closing(made.alerts), made.undo:
            yield made


def _install_agent(made: Arena) -> None:
    """Put the agent where its own installer does: below the home, writable by its user."""
    world = made.world
    place = world.home / f".local/share/claude/versions/{VERSION}"
    place.parent.mkdir(parents=True)
    shutil.copyfile(world.agent.program.resolve(), place)
    place.chmod(0o755)
    made.agent.unlink()
    made.agent.symlink_to(place)
    give_to_user(world, world.home / ".local")


def _compile(made: Arena) -> None:
    made.folder.mkdir()
    for path in _PROGRAMS.iterdir():
        if path.is_file():
            shutil.copy(path, made.folder)
    library = ("-shared", "-fPIC")
    for name, options in (("use", ()), ("evil", library), ("given", library)):
        target = made.folder / (f"{name}.so" if options else name)
        run_tool("cc", *_C_FLAGS, *options, "-o", str(target), str(_PROGRAMS / f"{name}.c"))
    give_to_user(made.world, made.folder)


def _settings(made: Arena) -> dict[str, str]:
    """Return what every attack is told; all of it can be found out by a process of the user."""
    world = made.world
    environment = json.loads((world.home / SETTINGS).read_text())["env"]
    made.phantoms[CLAUDE] = environment["ANTHROPIC_AUTH_TOKEN"]
    records = json.loads(broker_command(world.root, "credentials", "--json"))
    names = [str(each["id"]).split("/", 2)[2] for each in records if each["kind"] == "anthropic-api-key"]
    temporary = world.home / "temporary"
    temporary.mkdir()
    give_to_user(world, temporary)
    return {
        "CLAUDE_CODE_TMPDIR": str(temporary),
        "ATTACK_ROOT": str(world.root),
        "ATTACK_AGENT": str(made.agent),
        "ATTACK_USE": str(made.program("use")),
        "ATTACK_EVIL": str(made.program("evil.so")),
        "ATTACK_SHIM": str(world.shim),
        "ATTACK_CREDENTIAL": names[0],
        "ATTACK_PORT": str(world.port),
        "ATTACK_SOCKET": str(world.root / "run/agent-broker/inject.sock"),
        "ATTACK_TOKEN": made.phantoms[CLAUDE],
    }
