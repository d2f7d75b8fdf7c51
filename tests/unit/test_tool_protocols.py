"""Which credential a tool means: by its destination alone, and nobody is told who is not verified."""

import pytest

from agent_broker.errors import MisuseError, RefusedError
from agent_broker.ids import AgentName, CredentialId
from agent_broker.transport.frame import ShimRequest
from agent_broker.transport.tool_protocols import ToolProtocols
from agent_broker.vault.record import Credential, UnknownCredentialError
from agent_broker.vault.secret import Secret
from tests.fakes.unseen import UnseenCaller

UID = 1000


class World:
    """Credentials of a user's, and an issuer that gives whatever there is, or says no."""

    def __init__(self, **places):
        self.held = [credential(name, *what) for name, what in places.items()]
        self.refuses = False
        self.asked = []

    def credentials_of(self, agent, uid):
        return tuple(each for each in self.held if (each.agent, each.owner_uid) == (agent, uid))

    def caller_by_pidfd(self, pidfd):
        return UnseenCaller(pidfd)

    async def issue(self, ask):
        self.asked.append(ask)
        if self.refuses:
            raise RefusedError("tool", "the caller was not started by git")
        found = [each for each in self.held if each.id == ask.credential]
        if not found:
            raise UnknownCredentialError(ask.credential)
        return Issued(found[0])

    async def git(self, url, *, uid=UID, operation="get", **more):
        scheme, _, rest = url.partition("://")
        host, _, path = rest.partition("/")
        fields = {"protocol": scheme, "host": host, **({"path": path} if path else {}), **more}
        lines = "".join(f"{key}={value}\n" for key, value in fields.items()) + "\n"
        protocols = ToolProtocols(credentials=self, callers=self, issuer=self)
        return await protocols.handle(ShimRequest("git", (operation,), lines.encode()), Peer(uid))


class Issued:
    def __init__(self, credential):
        self.credential, self.secret = credential, Secret(f"secret of {credential.id}".encode())
        self.grant = self
        self.mode, self.narrowed = "release", ""


class Peer:
    pidfd = 7

    def __init__(self, uid):
        self.uid = uid


def credential(name, destination, username="alice", uid=UID, tool="git"):
    attributes = {"destination": destination, "username": username}
    return Credential(CredentialId(f"{tool}/{uid}/{name}"), "git-password", AgentName(tool), uid, 1, 0, 0, attributes)


@pytest.fixture
def world():
    return World(
        server=("https://git.example.com",),
        team=("https://git.example.com/team",),
        bob=("https://git.example.com", "bob"),
        other=("https://other.example.com",),
        theirs=("https://git.example.com/theirs", "alice", 1001),
        docker=("https://docker.example.com", "alice", UID, "docker"),
    )


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://git.example.com/any/repository.git", "server"),
        ("https://git.example.com/team/repository.git", "team"),
        ("https://git.example.com/teamwork", "server"),
        ("https://other.example.com", "other"),
        ("https://git.example.com/theirs/repository", "server"),
    ],
)
async def test_the_longest_path_that_covers_the_destination_is_meant(world, url, name):
    answer = await world.git(url)

    assert f"password=secret of git/{UID}/{name}\n".encode() in answer.stdout.reveal()
    assert world.asked[0].to is not None
    assert (world.asked[0].tool, world.asked[0].mode) == (True, "release")


async def test_a_users_name_chooses(world):
    answer = await world.git("https://git.example.com", username="bob")

    assert answer.stdout.reveal() == f"username=bob\npassword=secret of git/{UID}/bob\n".encode()


@pytest.mark.parametrize(
    "url",
    ["http://git.example.com", "https://git.example.com:8443", "https://example.com", "https://docker.example.com",
     "https://git.example.com.evil.example"],
)  # fmt: skip
async def test_another_server_port_or_scheme_is_never_meant(world, url):
    answer = await world.git(url)

    assert (answer.exit_code, answer.stdout) == (0, b"")
    assert world.asked[0].credential == f"git/{UID}/none"


@pytest.mark.parametrize("url", ["https://git.example.com", "https://nowhere.example.com"])
async def test_who_is_not_verified_hears_the_same_whether_there_is_one(world, url):
    world.refuses = True

    with pytest.raises(RefusedError, match="was not started by git"):
        await world.git(url)


async def test_what_asks_for_nothing_reaches_nobody(world):
    assert (await world.git("https://git.example.com", operation="erase", password="x")).exit_code == 0
    assert world.asked == []


@pytest.mark.parametrize("url", ["https://git.example.com/a/../b", "https://git%2eexample.com", "https://", "://a"])
async def test_a_destination_that_could_be_read_in_two_ways_is_none(world, url):
    with pytest.raises(MisuseError):
        await world.git(url)
    assert world.asked == []
