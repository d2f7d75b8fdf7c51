"""Planting: what the user has stays byte for byte, and what is not safe is refused with a sentence (needs root)."""

import json

import pytest

from agent_broker.enroll.plant import plant
from agent_broker.errors import MisuseError
from agent_broker.honeytoken.kinds import KINDS
from agent_broker.identity.registry import DecoyFile, Enrollment, RoleRule, save_enrollment
from tests.fakes.plant_world import UID, PlantWorld

MERGED = {
    "claude-oauth": '{\n  "mcpOAuth": {"x": {"accessToken": "mine"}}\n}',
    "claude-api-key": "# mine\nOTHER=1",
    "openai-api-key": "export A=1\n",
    "aws-profile": "# mine\n[default]\naws_access_key_id=AKIAMINE\n  \n[work]\nregion = eu\n",
    "npm-token": "; mine\r\nfund=false\r\n[section]\r\na=b",
    "docker-auth": '{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6bWluZQ=="}},"credsStore":"pass"}',
    "kubeconfig": "users:\n- name: me\n  user:\n    token: mine\ncontexts: []\nclusters: []\ncurrent-context: mine\n",
    "env-file": "A='two\nlines'",
    "netrc": "machine a login b password c\nmacdef init\nls\n",
    "git-credentials": "https://me:mine@github.com",
    "gh-hosts": "# mine\ngithub.com:\n  user: me\n  oauth_token: gho_mine",
}
OWN_FILE = {each.name for each in KINDS} - set(MERGED)


@pytest.fixture
def world():
    world = PlantWorld()
    yield world
    world.close()


def path_of(kind):
    return next(each.default_path for each in KINDS if each.name == kind)


@pytest.mark.parametrize("kind", sorted(MERGED))
def test_what_the_user_has_is_as_it_was_after_removal(world, kind):
    world.file(path_of(kind), MERGED[kind], mode=0o640)
    before, folders = world.snapshot(), world.folders()
    world.plant(kind)
    during = world.snapshot()[path_of(kind)]
    was = before[path_of(kind)]
    assert (during.mode, during.uid, during.gid) == (was.mode, was.uid, was.gid)
    assert len(during.data) > len(was.data)
    (decoy,) = world.planted()
    assert (decoy.shared, decoy.kind, decoy.owner_uid) == (True, kind, UID)
    assert decoy.values_sha256
    outcome = world.remove(path_of(kind))
    assert outcome.what == "as it was: content, mode, owner, times"
    assert (world.snapshot(), world.folders()) == (before, folders)
    assert (world.planted(), world.journals()) == ((), [])


@pytest.mark.parametrize("kind", sorted(MERGED))
def test_what_the_user_changed_since_stays_and_the_decoy_goes(world, kind):
    place = world.file(path_of(kind), MERGED[kind])
    world.plant(kind)
    changed = place.read_bytes()
    addition = b" " if MERGED[kind].startswith("{") else b"\n# later\n"
    world.make(place, changed + addition)
    assert world.remove(path_of(kind)).what == "your later changes kept; the decoy is out"
    assert place.read_bytes() == MERGED[kind].encode() + addition


@pytest.mark.parametrize("kind", [each.name for each in KINDS])
def test_a_file_that_was_made_goes_with_its_folders(world, kind):
    world.plant(kind)
    place = world.home / path_of(kind)
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.stat().st_uid == UID
    (decoy,) = world.planted()
    assert decoy.shared == next(each.tool_reads for each in KINDS if each.name == kind)
    assert world.remove(path_of(kind)).what.startswith("removed")
    assert (world.snapshot(), world.folders()) == ({}, [])


@pytest.mark.parametrize("kind", sorted(MERGED))
def test_a_made_file_keeps_what_the_user_added(world, kind):
    world.plant(kind)
    place = world.home / path_of(kind)
    if place.suffix == ".json":
        value = json.loads(place.read_text())
        world.make(place, json.dumps({**value, "mine": 1}, indent=3))  # as a tool writes it anew
        world.remove(path_of(kind))
        assert json.loads(place.read_text())["mine"] == 1
    else:
        world.make(place, place.read_text() + "# mine\n")
        world.remove(path_of(kind))
        assert place.read_text().strip() == "# mine"


@pytest.mark.parametrize("kind", sorted(OWN_FILE))
def test_a_kind_that_needs_its_own_file_takes_nobody_elses(world, kind):
    world.file(path_of(kind), "mine")
    with pytest.raises(MisuseError, match="there is a file already"):
        world.plant(kind)
    assert world.snapshot()[path_of(kind)].data == b"mine"


REFUSED = {
    "two of one section": ("aws-profile", "[a]\nx=1\n[a]\ny=2\n", "not one that its tool can read"),
    "not text": ("env-file", b"\xff\xfeA\0=\0", "not plain text"),
    "byte order mark": ("npm-token", b"\xef\xbb\xbfa=b\n", "byte order mark"),
    "own variable": ("claude-api-key", "ANTHROPIC_API_KEY=mine\n", "entry of that name"),
    "own login": ("claude-oauth", '{"claudeAiOauth": {"accessToken": "mine"}}', "entry of that name"),
    "not JSON": ("docker-auth", "{auths:", "can't be merged into"),
    "no object": ("docker-auth", '{"auths": 3}', "can't be merged into"),
    "twice the same key": ("docker-auth", '{"auths": {}, "auths": {}}', "can't be merged into"),
    "aliases": ("kubeconfig", "users: &a []\ncontexts: *a\nclusters: []\n", "aliases"),
    "laughs": ("kubeconfig", "a: &a [1]\nb: [*a, *a]\nusers: []\n", "aliases"),
    "two documents": ("kubeconfig", "users: []\n---\nusers: []\n", "not YAML that can be merged into"),
    "merge key": ("kubeconfig", "<<: {users: [{name: mine}]}\ncontexts: []\nclusters: []\n", "mean something else"),
    "deep": ("kubeconfig", "a: " + "[" * 5000, "not YAML that can be merged into"),
    "a tag": ("kubeconfig", "a: !!python/object/apply:os.system [x]\nusers: []\n", "not YAML"),
    "null list": ("kubeconfig", "users: null\ncontexts: []\nclusters: []\n", "no list under users"),
    "ended": ("kubeconfig", "users: []\ncontexts: []\n...\n", "a decoy can't be added"),
    "a list": ("gh-hosts", "- github.com:\n", "no github.com"),
    "only another host": ("gh-hosts", "ghe.mine.example:\n    oauth_token: mine\n", "no github.com"),
}


@pytest.mark.parametrize(("kind", "mine", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_what_can_t_be_merged_safely_is_refused_and_quotes_nothing(world, kind, mine, why):
    world.file(path_of(kind), mine)
    before = world.snapshot()
    with pytest.raises(MisuseError, match=why) as caught:
        world.plant(kind)
    assert "mine" not in caught.value.explain()
    assert caught.value.next_step
    assert (world.snapshot(), world.planted()) == (before, ())


def test_a_link_is_not_followed(world):
    target = world.root / "target"
    target.write_text("root's\n")
    (world.home / ".env").symlink_to(target)
    with pytest.raises(MisuseError, match="symbolic link"):
        world.plant("env-file")
    world.make_folder(world.root / "elsewhere")
    (world.home / ".aws").symlink_to(world.root / "elsewhere")
    with pytest.raises(MisuseError, match="symbolic link"):
        world.plant("aws-profile")
    assert target.read_text() == "root's\n"
    assert list((world.root / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", ".", "a\nb", "a\x1b[2J", "caf\udce9"])
def test_a_path_elsewhere_or_that_can_t_be_shown_is_refused(world, path):
    with pytest.raises(MisuseError, match="path"):
        world.plant("env-file", path)
    assert world.snapshot() == {}


def test_a_file_that_the_users_tools_open_is_denied_to_nobody(world):
    world.file(".env", "A=1\n")
    for kind, path in (("env-file", ""), ("aws-profile", "")):
        with pytest.raises(MisuseError, match="own tools"):
            world.plant(kind, path, deny=True)
    world.plant("aws-profile", ".aws/old-credentials", deny=True)
    assert [each.deny for each in world.planted()] == [True]


def test_one_decoy_a_file(world):
    world.plant("env-file")
    with pytest.raises(MisuseError, match="holds a decoy already"):
        world.plant("claude-api-key", ".env")


def test_an_enrolled_agents_decoy_is_left_alone_unread(world):
    folder = world.state / "registry/agents"
    folder.mkdir()
    decoys = (DecoyFile(str(world.home / ".claude/.credentials.json"), "claude-oauth"),)
    save_enrollment(folder, Enrollment("claude", UID, "ann", (), RoleRule(("claude",)), decoys, (), 0))
    with pytest.raises(MisuseError, match="enrolled agent claude"):
        world.plant("claude-oauth")


def test_a_change_between_plan_and_planting_stops_it(world):
    place = world.file(".env", "A=1\n")
    plan = world.plan("env-file")
    world.make(place, "A=2\n")
    with pytest.raises(MisuseError, match="has changed since the plan"):
        plant(plan, world.garden())
    assert place.read_text() == "A=2\n"


def test_a_refresh_changes_the_value_and_nothing_of_the_users(world):
    world.file(".env", "A=1\n", mode=0o640)
    before = world.snapshot()
    world.plant("env-file", lifetime_ns=5_000_000_000)
    first, data = world.planted()[0], (world.home / ".env").read_bytes()
    outcome = world.refresh()
    second = world.planted()[0]
    assert outcome.what == "refreshed"
    assert not set(first.values_sha256) & set(second.values_sha256)
    assert (world.home / ".env").read_bytes() != data
    assert second.expires_ns - second.planted_ns == 5_000_000_000
    assert second.planted_ns > first.planted_ns
    world.remove(".env")
    assert world.snapshot() == before


def test_a_decoy_that_its_owner_rewrote_is_left_and_said(world):
    world.file(".env", "A=1\n")
    world.plant("env-file")
    place = world.home / ".env"
    world.make(place, place.read_text().replace("PROD_DEPLOY_TOKEN=ghp_", "PROD_DEPLOY_TOKEN=mine"))
    left = place.read_text()
    assert world.remove(".env").what.startswith("left as it is")
    assert place.read_text() == left
    assert world.planted() == ()


def test_a_deleted_file_stays_deleted(world):
    world.plant("ssh-private-key")
    (world.home / ".ssh/id_ed25519_backup").unlink()
    assert world.remove(".ssh/id_ed25519_backup").what == "was deleted already"
    assert world.folders() == []


def test_two_installations_share_no_value(world):
    seen = set()
    for kind in KINDS:
        for _ in range(2):
            values = set(kind.make(True).values)
            assert not values & seen
            seen |= values


def test_the_journal_and_the_registry_hold_no_value(world):
    for kind in KINDS:
        plan = world.plan(kind.name)
        plant(plan, world.garden())
        kept = b"".join(path.read_bytes() for path in world.state.rglob("*.json"))
        for value in plan.token.values:
            assert value.encode() not in kept
            assert value not in repr(plan)
