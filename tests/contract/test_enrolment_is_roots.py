"""No message on any socket lets a user's process register, approve, thaw or widen anything.

Each socket is served by the product's own code, and asked, in another process, as the owner of an enrolled agent.
What can be asked is enumerated from the product: a call, a question or a protocol that is added fails here until
somebody has written down what it does in a user's hands.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import aiohttp
import msgspec
import pytest

from agent_broker.cli.app import COMMANDS
from agent_broker.config.layout import Layout
from agent_broker.enroll.policy_file import write_policy
from agent_broker.errors import IntegrityError
from agent_broker.grant.freeze import Freeze
from agent_broker.identity.evidence import Freshness
from agent_broker.identity.registry import load_registry, save_enrollment
from agent_broker.ids import AgentName, Epoch, ProcId
from agent_broker.monitor import messages
from agent_broker.monitor.incident import new_incident
from agent_broker.monitor.listener import bind_monitor_socket
from agent_broker.monitor.service import Service
from agent_broker.monitor.spool import Spool
from agent_broker.policy.document import load_policy
from agent_broker.transport import control_pb2 as pb
from agent_broker.transport.frame import ShimRequest, decode_answer, encode_request
from agent_broker.transport.protocols import Protocols
from tests.fakes.agent_socket import ask, serving
from tests.fakes.control import FakeBroker, ServedBroker, decoy_opened, enrollment
from tests.fakes.inject import InjectWorld
from tests.fakes.mock_provider import MockProvider

OWNER, GROUP = 4711, 4712
"""The enrolled agent's owner (tests.fakes.control), and the group that may read."""

SOMEBODY = pb.AgentOfUser(agent="claude", owner_uid=OWNER)
ALERT = "4f1d0c9e5b7a4e0f9a6b2c3d4e5f6071"
CALLS = {
    "Read/Status": pb.Empty(),
    "Read/ListAgents": pb.Empty(),
    "Read/ListCredentials": pb.Empty(),
    "Read/ListFrozen": pb.Empty(),
    "Read/Lineage": pb.LineageRequest(pid=4242),
    "Read/Alerts": pb.AlertsRequest(limit=1),
    "Read/Alert": pb.AlertRequest(id=ALERT),
    "Admin/AckAlert": pb.AckAlertRequest(id=ALERT, reason="nothing to see here", allowed="/tmp/evil"),
    "Admin/PutCredential": pb.PutCredentialRequest(id="claude/4711/mine", kind="anthropic-api-key", secret=b"mine"),
    "Admin/GetCredential": pb.CredentialId(id="claude/4711/oauth"),
    "Admin/PutOriginal": pb.PutOriginalRequest(id="claude/4711/original/0", path="/etc/passwd", content=b"x"),
    "Admin/GetOriginal": pb.CredentialId(id="claude/4711/original/0"),
    "Admin/MakePhantom": pb.MakePhantomRequest(owner=SOMEBODY, active="claude/4711/oauth"),
    "Admin/RemoveAgent": SOMEBODY,
    "Admin/RemoveAccount": pb.AccountOfUser(owner=SOMEBODY, account="private"),
    "Admin/RemoveCredential": pb.CredentialId(id="git/4711/github.com"),
    "Admin/Reload": pb.Empty(),
    "Admin/Freeze": pb.FreezeRequest(agent=pb.AgentOfAnyUser(agent="claude"), reason="denial of service"),
    "Admin/Thaw": pb.ThawRequest(all=True),
}
"""Every call of control.proto, as an attacker would make it. Those of Read change nothing; others only root makes."""

QUESTIONS = {
    messages.Attest: (Freshness("e1", 1, 1, 0),),
    messages.AttestSocket: (1,),
    messages.FindOtherEnd: (1,),
    messages.GetParents: (),
    messages.Recheck: (Freshness("e1", 1, 1, 0),),
    messages.Confirm: (Freshness("e1", 1, 1, 0),),
    messages.DescribePid: (1,),
    messages.WhoWrote: (),
    messages.MountView: (),
    messages.Reload: (),
    messages.GetStatus: (),
    messages.Subscribe: (),
    messages.Acknowledge: (2**40,),
    messages.LetGoOn: (Epoch("e1"), (ProcId(1),)),
    messages.Complete: (
        new_incident(kind="decoy-used", time_ns=1, severity="critical", what="x", tier="unknown", action="refused"),
    ),
}
"""Every request of monitor.sock. None names what to watch, whom to trust or what to write."""

WRITING_COMMANDS = {
    "enroll": ["enroll", "claude", "--user", str(OWNER), "--yes"],
    "account": ["account", "add", "claude", "private", "--user", str(OWNER)],
    "managed": ["managed", "set", "--yes"],
    "approve": ["approve", "claude", "--user", str(OWNER), "--binary", "/bin/true", "--yes"],
    "unenroll": ["unenroll", "claude", "--user", str(OWNER), "--yes"],
    "agent": ["agent", "remove", "mine"],
    "login": ["login", "claude", "--user", str(OWNER)],
    "logout": ["logout", "git", "--host", "github.com", "--user", str(OWNER), "--yes"],
    "alert": ["alert", "ack", ALERT, "--allow", "--reason", "mine"],
    "decoy": ["decoy", "plant", "--kind", "aws-profile", "--user", str(OWNER), "--yes"],
    "paths": ["paths", "allow", "1", "--reason", "mine"],
    "ssh": ["ssh", "limit", "id_ed25519", "--any-client", "--user", str(OWNER), "--yes"],
    "secret": ["secret", "remove", "npm", "--user", str(OWNER), "--yes"],
    "freeze": ["freeze", "claude", "--reason", "mine"],
    "thaw": ["thaw", "claude"],
    "monitor": ["monitor"],
    "daemon": ["daemon"],
}
READING_COMMANDS = {"scan", "agents", "credentials", "alerts", "report", "notify", "lineage", "doctor", "run", "audit"}

DROP = """import os, sys, json
os.setgroups({groups})
os.setresgid({gid}, {gid}, {gid})
os.setresuid({uid}, {uid}, {uid})
"""

CALLER = """
import grpc
{drop}
path, calls = sys.argv[1], json.loads(sys.argv[2])
answers = {{}}
with grpc.insecure_channel("unix:" + path) as channel:
    for name, (request, streams) in calls.items():
        make = channel.unary_stream if streams else channel.unary_unary
        try:
            answer = make("/agentbroker.v1." + name)(bytes.fromhex(request), timeout=20)
            list(answer) if streams else answer
            answers[name] = "OK"
        except grpc.RpcError as error:
            answers[name] = error.code().name
print(json.dumps(answers))
"""

ASKER = """
import socket
{drop}
answers = []
for request in json.loads(sys.argv[2]):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as end:
        end.settimeout(5)
        try:
            end.connect(sys.argv[1])
            end.sendmsg([bytes.fromhex(request)])
            answers.append(end.recv(1 << 17).hex() or "hung up")
        except OSError as error:
            answers.append(type(error).__name__)
print(json.dumps(answers))
"""

COMMANDER = """
import contextlib, io
from agent_broker.cli import alert, approve, enroll, freeze, thaw, unenroll
from agent_broker.cli.main import main
import agent_broker.monitor_main, agent_broker.daemon.main, agent_broker.daemon
{drop}
codes = {{}}
for name, words in json.loads(sys.argv[1]).items():
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        codes[name] = main(words)
print(json.dumps(codes))
"""


def as_user(program: str, *arguments: object, groups: tuple[int, ...] = ()) -> object:
    """Run a program that drops to the owner after its imports, and return what it prints."""
    drop = DROP.format(groups=list(groups), gid=OWNER, uid=OWNER)
    done = subprocess.run(
        [sys.executable, "-c", program.format(drop=drop), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # so that it is the sockets' own barriers that hold
        yield Path(folder)


@pytest.fixture
def world() -> FakeBroker:
    made = FakeBroker()
    made.enrollments = [enrollment()]
    made.incidents = [msgspec.structs.replace(decoy_opened(), id=ALERT)]
    made.originals["claude/4711/original/0"] = ("/home/alice/.claude.json", b"what was there")
    made.freezes = [Freeze(1, "an intruder", 1, agent=AgentName("claude"))]
    return made


@pytest.fixture
def served(world: FakeBroker, root: Path) -> Iterator[ServedBroker]:
    with ServedBroker(world, root, read_gid=GROUP) as broker:
        yield broker


def state(world: FakeBroker) -> str:
    """Everything that could be changed, as text: the world itself is changed in place."""
    changeable = (world.enrollments, world.vault, world.originals, world.freezes, world.acks)
    return repr((*changeable, world.reloads, world.policy_rules))


def calls() -> str:
    methods = {
        f"{service.name}/{method.name}": method.server_streaming
        for service in pb.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert set(methods) == set(CALLS), "a call of control.proto that is not tried here"
    return json.dumps({name: (CALLS[name].SerializeToString().hex(), streams) for name, streams in methods.items()})


def test_the_owner_reaches_no_call_of_the_control_plane(served: ServedBroker, world: FakeBroker) -> None:
    before = state(world)
    for path in (served.layout.admin_socket, served.layout.read_socket):
        assert set(as_user(CALLER, path, calls()).values()) == {"UNAVAILABLE"}
    assert state(world) == before


def test_a_member_of_the_group_reads_and_changes_nothing(served: ServedBroker, world: FakeBroker) -> None:
    before = state(world)
    answers = as_user(CALLER, served.layout.read_socket, calls(), groups=(GROUP,))
    assert isinstance(answers, dict)
    assert {name: code for name, code in answers.items() if name.startswith("Admin/")} == {
        name: "UNIMPLEMENTED" for name in CALLS if name.startswith("Admin/")
    }
    assert {code for name, code in answers.items() if name.startswith("Read/")} == {"OK"}
    assert set(as_user(CALLER, served.layout.admin_socket, calls(), groups=(GROUP,)).values()) == {"UNAVAILABLE"}
    assert state(world) == before


def requests() -> str:
    assert set(get_args(messages.Request)) == set(QUESTIONS), "a request of monitor.sock that is not tried here"
    return json.dumps([msgspec.msgpack.encode(kind(1, *rest)).hex() for kind, rest in QUESTIONS.items()])


@pytest.mark.parametrize("mode", [0o660, 0o666], ids=["as bound", "with its mode lost"])
async def test_the_monitor_answers_the_owner_nothing(root: Path, mode: int) -> None:
    path, spool = root / "monitor.sock", Spool(root / "spool")
    asked: list[object] = []
    service = Service(
        listener=bind_monitor_socket(path, GROUP), broker_uid=4000, attestor=Everything(asked), spool=spool,
        reload=lambda: asked.append("reload"), status=asked.append, who_wrote=asked.append,
    )  # fmt: skip
    service.start()
    path.chmod(mode)
    try:
        answers = await asyncio.to_thread(as_user, ASKER, path, requests())
    finally:
        await service.close()
        spool.close()
    refused = {"PermissionError"} if mode == 0o660 else {"hung up", "ConnectionResetError", "BrokenPipeError"}
    assert set(answers) <= refused
    assert asked == []


class Everything:
    """Notes whatever it is asked."""

    def __init__(self, asked: list[object]) -> None:
        self._asked = asked

    def __getattr__(self, name: str) -> object:
        return lambda *_: self._asked.append(name)


def test_what_the_owner_wrote_is_no_registry_and_no_policy(root: Path) -> None:
    """Reload reads root's folders: a file of the owner's in them, or a folder that is not root's, refuses all of it."""
    layout = Layout(root)
    layout.registry_folder.mkdir(parents=True)
    save_enrollment(layout.registry_folder, enrollment())
    mine = layout.registry_folder / "mine.json"
    mine.write_bytes((layout.registry_folder / enrollment().file_name).read_bytes())
    os.chown(mine, OWNER, OWNER)
    with pytest.raises(IntegrityError, match="others than root"):
        load_registry(layout.registry_folder)
    mine.unlink()
    os.chown(layout.registry_folder, OWNER, OWNER)
    with pytest.raises(IntegrityError, match="others than root"):
        load_registry(layout.registry_folder)
    rule = layout.policy_folder / "mine.toml"
    write_policy(rule, b'[[rule]]\nagent = "claude"\nowner = 4711\ncredential = "*"\nmodes = ["release"]\n')
    os.chown(rule, OWNER, OWNER)
    with pytest.raises(IntegrityError, match="others than root"):
        load_policy(layout.policy_folder)


WORDS = ("register", "enroll", "approve", "thaw", "freeze", "reload", "unenroll", "put", "set", "admin", "Admin.Thaw")


class NobodysBroker:
    """What agent.sock's protocols work with: nobody is enrolled, and whatever is asked is noted."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def agents_of(self, _uid: int) -> tuple[str, ...]:
        return ()

    def phantom_for(self, _agent: str, _uid: int, _account: str) -> None:
        return None

    def caller_by_pidfd(self, _pidfd: int) -> "NobodysBroker":
        return self

    async def attest(self, _known: object = None) -> object:
        return Freshness("e1", 1, 1, 0)

    async def issue(self, _ask: object) -> None:
        self.asked.append("issue")


async def test_agent_sock_speaks_no_word_that_changes_anything(root: Path) -> None:
    broker = NobodysBroker()
    protocols = Protocols(agents=broker, callers=broker, issuer=broker)
    assert set(protocols.names) == {"claude-api-key-helper", "get", "phantom"}, "say below what a new protocol changes"
    async with serving(root, protocols.handle):
        for word in (*WORDS, *protocols.names):
            request = encode_request(ShimRequest(word, ("claude", "/tmp/evil")))
            answer = decode_answer(await asyncio.to_thread(ask, root / "agent.sock", request))
            assert answer.exit_code != 0, word
    assert broker.asked == []


async def test_the_injection_endpoint_has_no_door_besides_the_provider(root: Path) -> None:
    async with MockProvider() as provider, InjectWorld(provider).serving(root) as world:
        before = list(world.vault.list())
        async with aiohttp.ClientSession(world.base_url) as session:
            for word in WORDS:
                for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
                    async with session.request(
                        method, f"/{word}", data=b'{"agent":"claude","path":"/tmp/evil"}'
                    ) as said:
                        assert said.status >= 400, (method, word)
        assert provider.seen == []
        assert list(world.vault.list()) == before


def test_every_command_that_changes_anything_is_refused_to_the_owner(
    served: ServedBroker, world: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(WRITING_COMMANDS) | READING_COMMANDS == set(COMMANDS), "a command that is not tried here"
    monkeypatch.setenv("AGENT_BROKER_ROOT", str(served.layout.root))
    before = state(world)
    codes = as_user(COMMANDER, json.dumps(WRITING_COMMANDS), groups=(GROUP,))
    assert isinstance(codes, dict)
    assert {name for name, code in codes.items() if code not in {3, 4}} == set(), codes
    assert state(world) == before
