"""Which password keyring is given, and what may be set and deleted; the issuer says yes unless a test says no."""

import json

import pytest

from agent_broker.errors import MisuseError, RefusedError
from agent_broker.grant.ledger import Grant, Holder
from agent_broker.issue import RELEASE, STORE, Issued
from agent_broker.transport.frame import ShimRequest
from agent_broker.transport.keyrings import BACKEND, COMMAND, MAX_PASSWORD_BYTES, MAX_STORED, STORED_KIND, Keyrings
from agent_broker.transport.peer import Peer
from agent_broker.vault.record import Credential, UnknownCredentialError
from agent_broker.vault.secret import Secret
from tests.fakes.unseen import UnseenCaller

UID = 1000


class World:
    """Vault, callers and issuer in one."""

    def __init__(self):
        self.records: dict[str, tuple[Credential, bytes]] = {}
        self.asked = []
        self.refuses: set[str] = set()
        self.keyrings = Keyrings(credentials=self, callers=self, issuer=self, keeper=self)

    def keep(self, name, place, user, password):
        """As enroll moves it."""
        self.put(
            f"keyring/{UID}/{name}", kind="keyring-password", agent="keyring", owner_uid=UID,
            attributes={"destination": place, "username": user}, secret=Secret(password),
        )  # fmt: skip

    def put(self, credential_id, *, kind, agent, owner_uid, attributes, secret):
        record = Credential(credential_id, kind, agent, owner_uid, 1, 0, 0, attributes)
        self.records[credential_id] = record, secret.reveal()

    def delete(self, credential_id):
        del self.records[credential_id]

    def credentials_of(self, agent, uid):
        return tuple(each for each, _ in self.records.values() if (each.agent, each.owner_uid) == (agent, uid))

    def caller_by_pidfd(self, pidfd):
        return UnseenCaller(pidfd)

    async def issue(self, ask):
        await self.permit(ask)
        if ask.credential not in self.records:
            raise UnknownCredentialError(ask.credential)
        record, secret = self.records[ask.credential]
        holder = Holder("e", 1, 1)
        return Issued(Grant("g", holder, "keyring", UID, ask.credential, ask.mode, 0, 1, 1), record, Secret(secret))

    async def permit(self, ask):
        self.asked.append(ask)
        if ask.mode in self.refuses:
            raise RefusedError("policy", "no rule")

    async def ask(self, **said):
        request = ShimRequest(BACKEND, (), json.dumps(said).encode())
        return await self.keyrings.handle(request, Peer(-1, UID, 9))

    async def get(self, service, username=None):
        answer = await self.ask(operation="get", service=service, username=username)
        return None if answer.exit_code else json.loads(answer.stdout.reveal())

    async def set(self, service, username, password):
        return await self.ask(operation="set", service=service, username=username, password=password)


@pytest.fixture
def world():
    world = World()
    world.keep("upload", "https://upload.example/legacy", "__token__", b"root's")
    return world


async def test_what_was_moved_covers_all_below_its_address(world):
    world.keep("team", "https://upload.example/legacy/team", "bob", b"the team's")

    assert await world.get("https://upload.example/legacy/") == {"username": "__token__", "password": "root's"}
    assert await world.get("https://upload.example/legacy/team/x") == {"username": "bob", "password": "the team's"}
    assert (await world.get("https://upload.example/legacy/team", "__token__"))["password"] == "root's"


@pytest.mark.parametrize(
    ("service", "user"),
    [
        ("https://upload.example/simple", None), ("http://upload.example/legacy", None), ("upload.example", None),
        ("https://upload.example.evil/legacy", None), ("https://upload.example/legacy/../x", None),
        ("https://upload.example/legacy", "mallory"), ("https://upload.example:444/legacy", None),
    ],
)  # fmt: skip
async def test_another_place_or_user_is_given_nothing(world, service, user):
    assert await world.get(service, user) is None
    assert world.asked[-1].credential == f"keyring/{UID}/none"


async def test_what_is_set_is_for_exactly_its_service_and_user(world):
    await world.set("a service", "bob", "first")
    await world.set("a service", "bob", "second")
    await world.set("a service", "", "nobody's")

    assert await world.get("a service", "bob") == {"username": "bob", "password": "second"}
    assert await world.get("a service", "") == {"username": "", "password": "nobody's"}
    assert await world.get("a service ", "bob") is None
    assert [ask.mode for ask in world.asked[:3]] == [STORE] * 3
    assert world.asked[3].mode == RELEASE


@pytest.mark.parametrize("user", ["__token__", "mallory"])
async def test_nobody_sets_or_deletes_where_root_keeps_one(world, user):
    before = dict(world.records)

    with pytest.raises(RefusedError, match="root keeps"):
        await world.set("https://upload.example/legacy/", user, "mallory's")
    with pytest.raises(RefusedError, match="root keeps"):
        await world.ask(operation="delete", service="https://upload.example/legacy", username=user)
    assert world.records == before


async def test_roots_comes_first_whatever_was_set_before_it_was_moved(world):
    await world.set("https://other.example/legacy", "mallory", "mallory's")
    world.keep("other", "https://other.example", "alice", b"root's")

    assert (await world.get("https://other.example/legacy"))["username"] == "alice"


async def test_only_what_was_set_is_deleted(world):
    await world.set("s", "u", "p")

    assert (await world.ask(operation="delete", service="s", username="u")).exit_code == 0
    answer = await world.ask(operation="delete", service="s", username="u")
    assert answer.exit_code == 1
    assert b"no such password" in answer.stderr


async def test_who_may_not_store_changes_nothing(world):
    world.refuses = {STORE}
    before = dict(world.records)

    for said in ({"operation": "set", "password": "p"}, {"operation": "delete"}):
        with pytest.raises(RefusedError):
            await world.ask(service="s", username="u", **said)
    assert world.records == before


async def test_who_may_not_read_is_refused_whether_there_is_one_or_not(world):
    world.refuses = {RELEASE}

    for service in ("https://upload.example/legacy", "nothing"):
        with pytest.raises(RefusedError):
            await world.get(service)


async def test_what_is_set_is_bounded(world):
    for number in range(MAX_STORED):
        await world.set("s", str(number), "p")
    await world.set("s", "0", "replaced")

    with pytest.raises(MisuseError, match="keeps 200 passwords"):
        await world.set("s", "one more", "p")
    with pytest.raises(MisuseError):
        await world.set("s", "0", "p" * (MAX_PASSWORD_BYTES + 1))
    assert sum(each.kind == STORED_KIND for each, _ in world.records.values()) == MAX_STORED


async def test_the_command_reads_and_the_destination_is_asked_about(world):
    request = ShimRequest(COMMAND, ("get", "https://upload.example/legacy/", "--mode", "creds"))

    answer = await world.keyrings.handle(request, Peer(-1, UID, 9))

    assert answer.stdout.reveal() == b"__token__\nroot's\n"
    assert str(world.asked[0].to) == "https://upload.example/legacy"


async def test_what_is_not_keyrings_is_misuse(world):
    with pytest.raises(MisuseError):
        await world.keyrings.handle(ShimRequest(BACKEND, (), b"{}"), Peer(-1, UID, 9))
