"""Steps 5 and 6: the intruders, one below the agent and one beside it."""

import json
from textwrap import dedent

from tests.demo.alerts import Alert, Follower
from tests.demo.attack import Attack
from tests.demo.check import require
from tests.demo.claude_home import CREDENTIALS, SETTINGS
from tests.demo.machine import run_tool
from tests.demo.processes import broker_command, ended, outcome
from tests.demo.run_claude import ask
from tests.demo.show import Show
from tests.demo.world import SCANNER, World

_REFUSED = 3  # docs/cli.md
_REPLAY_S = 30
_SHOWN_STEPS = 3
_LINEAGE = "scanner <- bash <- claude <- "
_REPLAY = dedent(
    """
    import http.client, json, socket, sys
    env = json.load(open(sys.argv[1]))["env"]
    host, port = env["ANTHROPIC_BASE_URL"].removeprefix("http://").split(":")
    for name in ("tcp", "unix"):
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        if name == "unix":
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(sys.argv[2])
        headers = {"Authorization": "Bearer " + env["ANTHROPIC_AUTH_TOKEN"], "Content-Type": "application/json"}
        body = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
        connection.request("POST", "/v1/messages", json.dumps(body), headers)
        answer = connection.getresponse()
        print(json.dumps({"way": name, "status": str(answer.status), "body": answer.read().decode()}))
    """
)


def run_scanner(world: World, show: Show) -> str:
    """The model asks for a tool that steals: it gets a decoy, a no, and an alert with its whole lineage."""
    attack = Attack(world)
    world.provider.answers("All dependencies are fine.", tool=attack.command(_credential(world)))
    follower = Follower(world.root, world.root / "logs")
    with ended(follower.process):
        show.command('claude -p "check the dependencies"')
        said = ask(world, "check the dependencies")
        require("fine" in said, "the agent to finish its turn", said)
        opened = follower.wait_for("the decoy was opened", lambda alert: _is_about_decoy(alert, world))
        asked = follower.wait_for("the key was asked for", lambda alert: alert.kind == "release-refused")
        tried = follower.wait_for("the token was tried", lambda alert: alert.kind == "phantom-replayed")
    _show_loot(world, show, attack)
    show.command("agent-broker alerts --follow --long")
    for alert in (opened, asked, tried):
        lineage = alert.rows.get("lineage", "")
        require(_LINEAGE in lineage, f"the lineage {_LINEAGE}…", lineage)
        require(alert.rows.get("agent") == "claude", "the alert to name the agent", alert.rows.get("agent"))
        show.alert(alert.severity, alert.kind, _short(lineage))
    wanted = run_tool("sha256sum", str(world.home / SCANNER)).split()[0]
    require(opened.rows.get("sha256") == wanted, f"the scanner's hash {wanted}", opened.rows.get("sha256"))
    show.fact("sha256", f"{wanted[:16]}…, which is ~/{SCANNER}")
    return "it got a decoy and two noes, and left its name and hash"


def replay_phantom(world: World, show: Show) -> str:
    """The phantom is readable, and opens nothing in other hands."""
    before = len(world.provider.model_requests())
    follower = Follower(world.root, world.root / "logs")
    with ended(follower.process):
        answers = _replay(world)
        alert = follower.wait_for("the phantom was replayed", lambda alert: alert.kind == "phantom-replayed")
    for each in answers:
        require(each["status"] in {"401", "403"}, f"a refusal over {each['way']}", f"{each['status']}: {each['body']}")
        secret = any(value in each["body"] for value in (*world.keys.named().values(), world.phantom))
        require(not secret, "the refusal to say nothing secret", "it does")
    sent = len(world.provider.model_requests()) - before
    require(sent == 0, "nothing to reach the provider", f"{sent} requests")
    lineage = alert.rows.get("lineage", "")
    require(lineage.startswith("python3") and "claude" not in lineage, "the stranger's lineage", lineage)
    show.fact("answer", ", ".join(f"HTTP {each['status']} over {each['way']}" for each in answers))
    show.fact("says", json.loads(answers[0]["body"])["error"]["message"])
    show.alert(alert.severity, alert.kind, _short(lineage))
    return "a stolen phantom opens nothing"


def _short(lineage: str) -> str:
    """Leave out what is behind the agent, or the first few: who started the demo."""
    names = lineage.split(" <- ")
    shown = names.index("claude") + 1 if "claude" in names else _SHOWN_STEPS
    return " <- ".join(names[:shown]) + (" <- …" if len(names) > shown else "")


def _credential(world: World) -> str:
    """Return the name of the API key's record."""
    records = json.loads(broker_command(world.root, "credentials", "--json"))
    names = [str(each["id"]).split("/", 2)[2] for each in records if each["kind"] == "anthropic-api-key"]
    require(len(names) == 1, "one API key in the vault", names)
    return names[0]


def _is_about_decoy(alert: Alert, world: World) -> bool:
    ours = alert.rows.get("path") == str(world.home / CREDENTIALS)
    return alert.kind == "decoy-opened" and alert.severity == "CRITICAL" and ours


def _show_loot(world: World, show: Show, attack: Attack) -> None:
    stolen = attack.stolen(world.keys.named())
    require(not stolen, "the intruder to take no secret", stolen)
    decoy = json.loads((world.home / CREDENTIALS).read_text())["claudeAiOauth"]
    require(attack.credentials() == decoy, "the intruder to be served the decoy", "something else")
    code, given, said = attack.refusal()
    require(code == _REFUSED and not given, f"exit code {_REFUSED}, and nothing given", f"exit code {code}: {said}")
    status = attack.answer()
    require(" 403 " in f"{status} ", "the agent's token to be refused to its tool", status)
    show.fact("scanner", f"copied ~/{CREDENTIALS}: the decoy")
    show.fact("", f"asked for the key by agent-broker-shim: exit code {code}, nothing given")
    show.fact("", f"tried the agent's token at the endpoint: {status.removeprefix('HTTP/1.1 ')}")


def _replay(world: World) -> list[dict[str, str]]:
    socket_path = world.root / "run/agent-broker/inject.sock"
    command = ("/usr/bin/python3", "-I", "-c", _REPLAY, str(world.home / SETTINGS), str(socket_path))
    stranger = world.start_as_user(*command)
    said, complained = outcome(stranger, _REPLAY_S)
    require(stranger.returncode == 0, "the endpoint to answer", complained.strip())
    return [json.loads(line) for line in said.splitlines()]
