"""Enroll and unenroll on a real home of another user (needs root)."""

import hashlib
import json
import os
import stat

import pytest

from agent_broker.enroll.apply import apply_plan
from agent_broker.enroll.user_files import UserFiles
from agent_broker.errors import IntegrityError, MisuseError, UnavailableError
from agent_broker.identity.registry import (
    DecoyFile,
    EnrolledBinary,
    Enrollment,
    RoleRule,
    load_registry,
    save_enrollment,
)
from agent_broker.ids import AgentName, CredentialId, Sha256, Uid
from agent_broker.policy.document import load_policy
from tests.fakes.enroll_world import (
    ACCESS,
    API_KEY,
    GID,
    OAUTH,
    PRIMARY_KEY,
    REFRESH,
    SETTINGS,
    UID,
    URL,
    EnrollWorld,
)


@pytest.fixture
def world():
    world = EnrollWorld()
    yield world
    world.close()


def test_the_secrets_move_and_the_home_is_wired(world):
    report = world.full().enroll()
    assert world.secrets_in_home() == set()
    assert report.summary == "enrolled"
    assert report.warnings == ()
    settings = world.settings.read_text()
    assert settings == (
        SETTINGS.replace(f'    "ANTHROPIC_API_KEY": "{API_KEY}",\n', "").replace(
            '"PAGER": "less"',
            f'"PAGER": "less",\n    "ANTHROPIC_BASE_URL": "{URL}",\n    "ANTHROPIC_AUTH_TOKEN": "{phantom(world)}"',
        )
    )
    records = world.store.records
    assert records["claude/61234/api-key"].content == API_KEY.encode()
    assert records["claude/61234/primary-api-key"].content == PRIMARY_KEY.encode()
    assert json.loads(records["claude/61234/oauth"].content) == OAUTH["claudeAiOauth"]
    assert records["claude/61234/phantom"].attributes == {"credential": "claude/61234/api-key"}
    assert {id_: record.kind for id_, record in records.items() if "original" not in id_} == {
        "claude/61234/api-key": "anthropic-api-key",
        "claude/61234/primary-api-key": "anthropic-api-key",
        "claude/61234/oauth": "anthropic-oauth",
        "claude/61234/phantom": "phantom",
    }


def phantom(world):
    return world.store.records["claude/61234/phantom"].content.decode()


def test_the_decoy_has_the_shape_of_the_login(world):
    world.full().enroll()
    decoy = json.loads(world.credentials.read_text())["claudeAiOauth"]
    real = OAUTH["claudeAiOauth"]
    assert list(decoy) == list(real)
    for name in ("accessToken", "refreshToken"):
        assert decoy[name] != real[name]
        assert decoy[name][:13] == real[name][:13]
        assert len(decoy[name]) == len(real[name])
    assert decoy["expiresAt"] == 4102444800000
    assert (decoy["scopes"], decoy["subscriptionType"]) == (real["scopes"], real["subscriptionType"])


def test_everything_that_is_not_touched_stays(world):
    world.full()
    before = world.snapshot()
    world.enroll()
    after = world.snapshot()
    assert after.keys() == before.keys()
    for path, facts in after.items():
        assert (facts.mode, facts.uid, facts.gid) == (before[path].mode, before[path].uid, before[path].gid)
    config = json.loads(after[".claude.json"].data)
    assert config == {k: v for k, v in json.loads(before[".claude.json"].data).items() if k != "primaryApiKey"}


def test_the_registry_and_the_policy_say_it(world):
    world.full().enroll()
    (enrollment,) = load_registry(world.site().registry_dir)
    assert (enrollment.agent, enrollment.owner_uid, enrollment.role) == ("claude", UID, RoleRule(("claude",)))
    decoy = json.loads(world.credentials.read_text())["claudeAiOauth"]
    values = (hashlib.sha256(decoy[name].encode()).hexdigest() for name in ("accessToken", "refreshToken"))
    assert enrollment.decoys == (DecoyFile(str(world.credentials), "claude-oauth", values_sha256=tuple(values)),)
    assert enrollment.binaries[0].path == str(world.binary)
    (rule,) = load_policy(world.site().policy_dir).rules
    assert (rule.owner_uid, rule.credential.text, rule.modes) == (UID, "claude/61234/api-key", {"inject"})
    assert world.watch.reloads == 1


def test_the_journal_holds_no_secret_no_phantom_and_no_decoy(world):
    world.full().enroll()
    text = (world.state / "enroll/claude-61234.json").read_text()
    decoy = json.loads(world.credentials.read_text())["claudeAiOauth"]
    for value in (API_KEY, PRIMARY_KEY, ACCESS, REFRESH, phantom(world), decoy["accessToken"], decoy["refreshToken"]):
        assert value not in text


def test_a_plan_changes_nothing_and_holds_no_value(world):
    world.full()
    before = world.snapshot()
    plan = world.plan()
    assert world.snapshot() == before
    assert world.store.records == {}
    assert not world.state.exists()
    for value in (API_KEY, PRIMARY_KEY, ACCESS, REFRESH):
        assert value not in repr(plan)


def test_unenroll_puts_the_home_back_to_the_byte(world):
    before = world.full().snapshot()
    world.enroll()
    report = world.unenroll()
    assert world.snapshot() == before  # content, mode, owner, group, times of access and modification
    assert {outcome.what for outcome in report.outcomes} == {"as it was: content, mode, owner, times"}
    assert world.store.records == {}
    assert world.registered() == world.journals() == []
    assert list(world.site().policy_dir.iterdir()) == []
    assert world.watch.reloads == 2


def test_it_can_be_done_again(world):
    before = world.full().snapshot()
    for _ in range(2):
        world.enroll()
        world.unenroll()
    assert world.snapshot() == before


def test_files_that_were_not_there_are_made_and_removed(world):
    world.make(world.config, json.dumps({"primaryApiKey": PRIMARY_KEY}))
    before = world.snapshot()
    world.enroll()
    for path in (world.settings, world.credentials):
        facts = path.stat()
        assert (facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode)) == (UID, GID, 0o600)
    decoy = json.loads(world.credentials.read_text())["claudeAiOauth"]
    assert decoy["accessToken"].startswith("sk-ant-oat01-")
    assert json.loads(world.settings.read_text()) == {
        "env": {"ANTHROPIC_BASE_URL": URL, "ANTHROPIC_AUTH_TOKEN": phantom(world)}
    }
    world.unenroll()
    assert world.snapshot() == before


def test_decoys_are_unique_to_an_installation(world):
    world.full()
    seen = set()
    for _ in range(2):
        world.enroll()
        seen.add(json.loads(world.credentials.read_text())["claudeAiOauth"]["accessToken"])
        world.unenroll()
    assert len(seen) == 2


def test_a_home_on_another_file_system(tmp_path):
    world = EnrollWorld("/dev/shm")
    try:
        assert world.home.stat().st_dev != tmp_path.stat().st_dev
        before = world.full().snapshot()
        world.enroll()
        assert world.secrets_in_home() == set()
        world.unenroll()
        assert world.snapshot() == before
    finally:
        world.close()


def test_attributes_and_access_lists_are_kept(world):
    # version 2; user:: rw-, user:0 r--, group:: r--, mask r--, other ---: linux/posix_acl_xattr.h
    entries = ((1, 6, 0xFFFFFFFF), (2, 4, 0), (4, 4, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF))
    acl = b"\x02\0\0\0" + b"".join(
        tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + who.to_bytes(4, "little") for tag, bits, who in entries
    )
    world.full()
    os.setxattr(world.settings, "user.note", b"mine")
    os.setxattr(world.settings, "system.posix_acl_access", acl)
    mode = world.settings.stat().st_mode
    for change in (world.enroll, world.unenroll):
        change()
        assert os.getxattr(world.settings, "user.note") == b"mine"
        assert os.getxattr(world.settings, "system.posix_acl_access") == acl
        assert world.settings.stat().st_mode == mode


def test_a_default_access_list_of_the_folder_opens_nothing(world):
    world.full()
    entries = ((1, 7, 0xFFFFFFFF), (2, 6, 65534), (4, 5, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 5, 0xFFFFFFFF))
    acl = b"\x02\0\0\0" + b"".join(
        tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + who.to_bytes(4, "little") for tag, bits, who in entries
    )
    os.setxattr(world.claude, "system.posix_acl_default", acl)
    world.enroll()
    world.unenroll()
    assert os.listxattr(world.credentials) == []
    assert stat.S_IMODE(world.credentials.stat().st_mode) == 0o600


def test_the_second_enrolment_is_refused(world):
    world.full()
    plan = world.plan()
    world.enroll()
    before = world.snapshot()
    with pytest.raises(MisuseError, match="enrolled already"):
        world.plan()
    with pytest.raises(MisuseError, match="enrolled already"):
        apply_plan(plan, world.site(), injection_url=URL)
    assert world.snapshot() == before


def test_planning_an_enrolled_home_does_not_open_the_decoy(world):
    world.full().enroll()
    os.utime(world.credentials, ns=(1, world.credentials.stat().st_mtime_ns))  # relatime would show any read
    with pytest.raises(MisuseError):
        world.plan()
    assert world.credentials.stat().st_atime_ns == 1


def test_two_at_once(world):
    world.full()
    plan = world.plan()
    refused = []

    def second(step):
        if step == "swapped .claude/settings.json":
            for work in (lambda: apply_plan(plan, world.site(), injection_url=URL), world.unenroll, world.recover):
                with pytest.raises(UnavailableError, match="another enroll or unenroll is at work") as caught:
                    work()
                refused.append(caught.value)

    apply_plan(plan, world.site(second), injection_url=URL)
    assert len(refused) == 3
    assert world.secrets_in_home() == set()


def test_unenroll_of_what_is_not_enrolled(world):
    with pytest.raises(MisuseError, match="not enrolled"):
        world.full().unenroll()


def test_a_dead_vault_stops_it_with_nothing_changed(world):
    before = world.full().snapshot()
    world.store.kill()
    with pytest.raises(IntegrityError, match="vault does not answer") as caught:
        world.enroll()
    assert "--recover" in caught.value.explain()
    assert world.snapshot() == before
    with pytest.raises(MisuseError, match="half-way"):
        world.enroll()
    world.store.restart()
    world.recover()
    assert world.journals() == []
    world.enroll()


def test_a_vault_that_dies_in_the_middle_loses_nothing(world):
    before = world.full().snapshot()

    def kill(step):
        if step == "sealed credential api-key":
            world.store.kill()

    with pytest.raises(IntegrityError):
        world.enroll(kill)
    assert world.snapshot() == before
    world.store.restart()
    world.recover()
    assert world.store.records == {}


def test_a_dead_monitor_undoes_the_enrolment(world):
    before = world.full().snapshot()
    world.watch.alive = False
    with pytest.raises(UnavailableError, match="monitor does not answer"):
        world.enroll()
    assert world.snapshot() == before
    assert world.store.records == {}
    assert world.registered() == world.journals() == []
    assert list(world.site().policy_dir.iterdir()) == []


def test_unenroll_does_without_the_monitor(world):
    before = world.full().snapshot()
    world.enroll()
    world.watch.alive = False
    report = world.unenroll()
    assert any("monitor was not told" in warning for warning in report.warnings)
    assert world.snapshot() == before


def test_what_the_monitor_could_not_watch_is_reported(world):
    world.watch.problems = ("/x could not be watched",)
    assert "/x could not be watched" in world.full().enroll().warnings


def test_an_operator_s_own_policy_file_stays(world):
    folder = world.site().policy_dir
    folder.mkdir(parents=True)
    mine = folder / "claude-61234.toml"
    mine.write_text("# mine\n")
    assert any("stays" in warning for warning in world.full().enroll().warnings)
    world.unenroll()
    assert mine.read_text() == "# mine\n"


def test_what_is_left_elsewhere_is_reported_by_path_only(world):
    world.full()
    world.make_folder(world.claude / "projects")
    world.make(world.claude / "projects/a.jsonl", "x" * (1 << 20) + f'{{"text":"my key is {API_KEY}"}}')
    world.make(world.home / "notes.txt", f"{REFRESH}\n")
    world.make(world.home / "innocent\x1b[31m.txt", f"{ACCESS}\n")
    os.mkfifo(world.home / "fifo")
    report = world.enroll()
    home = world.home
    assert report.warnings == (
        f"{home}/.claude/projects/a.jsonl still holds a moved secret: delete it there",
        f"{home}/innocent\\x1b[31m.txt still holds a moved secret: delete it there",
        f"{home}/notes.txt still holds a moved secret: delete it there",
    )
    assert all(value not in "".join(report.warnings) for value in (API_KEY, ACCESS, REFRESH))


def test_the_search_passes_over_other_agents_decoys(world):
    """They are watched, and the search is not their agent."""
    world.full()
    other = world.make(world.home / "auth.json", API_KEY)
    registry = world.site().registry_dir
    registry.mkdir(parents=True)
    save_enrollment(
        registry,
        Enrollment(
            agent=AgentName("codex"),
            owner_uid=Uid(UID),
            owner_name="u",
            binaries=(EnrolledBinary("/x", Sha256("0" * 64), 1),),
            role=RoleRule(("codex",)),
            decoys=(DecoyFile(str(other), "codex-auth"),),
            credentials=(CredentialId("codex/61234/oauth"),),
            enrolled_ns=1,
        ),
    )
    assert world.enroll().warnings == ()


def test_the_search_is_over_before_the_decoys_are_watched(world, monkeypatch):
    registered = []
    scan = UserFiles.scan

    def look(*arguments):
        registered.append(world.registered())
        return scan(*arguments)

    monkeypatch.setattr(UserFiles, "scan", look)
    world.full().enroll()
    assert registered == [[]]


def test_what_can_not_be_searched_is_counted(world):
    world.full()
    (world.make_folder(world.home / "closed")).chmod(0)
    assert any("were not searched" in warning for warning in world.enroll().warnings)


def test_backups_lose_the_key_and_get_it_back(world):
    world.full()
    old_key = PRIMARY_KEY.replace("Pz4", "Old")
    backup = world.make(world.claude / "backups/.claude.json.backup.2", json.dumps({"a": 1, "primaryApiKey": old_key}))
    beside = world.make(world.home / ".claude.json.backup", json.dumps({"primaryApiKey": old_key, "b": 2}))
    clean = world.make(world.claude / "backups/.claude.json.backup.3", '{"a":  1}')
    before = world.snapshot()
    world.enroll()
    assert json.loads(backup.read_text()) == {"a": 1}
    assert json.loads(beside.read_text()) == {"b": 2}
    assert world.snapshot()[str(clean.relative_to(world.home))] == before[str(clean.relative_to(world.home))]
    assert not any(old_key.encode() in facts.data for facts in world.snapshot().values())
    backup.unlink()  # the agent rotates them
    world.unenroll()
    expected = {path: facts for path, facts in before.items() if not path.endswith("backup.2")}
    assert world.snapshot() == expected
