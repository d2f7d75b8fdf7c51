"""Claude Code's managed settings on a real folder of root's: edited, undone, and killed at every step."""

import json
import os

import pytest

from agent_broker.enroll.managed import FILE_NAME, MANAGED, ROOT, apply_managed, plan_managed
from agent_broker.enroll.undo import unenroll
from agent_broker.errors import IntegrityError, MisuseError, UnavailableError
from tests.fakes.enroll_world import EnrollWorld

URL = "http://127.0.0.1:917"
HELPER = "/opt/agent-broker-shim claude-api-key-helper"
EXISTING = """{
  "permissions": {"deny": ["Read(./.env)"]},
\t"env": { "HTTPS_PROXY":"http://proxy:3128" , "ANTHROPIC_BASE_URL": "https://gateway.example" },
  "forceLoginMethod": "console"
}
"""


class KilledError(BaseException):
    """Stands for SIGKILL: nothing of ours runs after it."""


@pytest.fixture
def world():
    made = EnrollWorld()
    yield made
    made.close()


@pytest.fixture
def folder(world):
    made = world.root / "etc-claude-code"
    made.mkdir(mode=0o755)
    return made


def existing(folder):
    file = folder / FILE_NAME
    file.write_text(EXISTING)
    file.chmod(0o640)
    os.utime(file, ns=(1_700_000_000_123_456_789, 1_600_000_000_987_654_321))
    return file


def facts(file):
    stat = file.stat()
    return file.read_bytes(), stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime_ns


def set_(world, folder, on_step=lambda _: None):
    return apply_managed(plan_managed(folder, URL, HELPER, ()), world.site(on_step))


def remove(world):
    return unenroll(MANAGED, ROOT, world.site())


def test_what_is_there_stays_and_comes_back_byte_for_byte(world, folder):
    file = existing(folder)
    before = facts(file)
    report = set_(world, folder)

    text = file.read_text()
    assert f'"ANTHROPIC_BASE_URL": "{URL}"' in text
    assert text.index("permissions") < text.index("HTTPS_PROXY") < text.index("forceLoginMethod")
    said = json.loads(text)
    assert said["apiKeyHelper"] == HELPER
    assert file.stat().st_mode == before[1]
    assert any("another value" in each for each in report.warnings)

    remove(world)
    assert facts(file) == before
    assert world.store.records == {}
    assert world.journals() == []


def test_a_missing_file_is_made_for_everybody_to_read_and_goes_again(world, folder):
    set_(world, folder / "sub")
    file = folder / "sub" / FILE_NAME
    assert json.loads(file.read_text()) == {"env": {"ANTHROPIC_BASE_URL": URL}, "apiKeyHelper": HELPER}
    assert file.stat().st_mode & 0o777 == 0o644
    remove(world)
    assert list((folder / "sub").iterdir()) == []


def test_what_root_changed_since_stays(world, folder):
    file = existing(folder)
    set_(world, folder)
    file.write_text(file.read_text().replace('"console"', '"claudeai"'))
    remove(world)
    assert file.read_text() == EXISTING.replace('"console"', '"claudeai"')


def steps_of(world, folder):
    steps = []
    set_(world, folder, steps.append)
    remove(world)
    return steps


@pytest.mark.parametrize("is_there", [True, False])
def test_a_kill_at_any_step_is_recovered_to_as_it_was_or_to_set(world, folder, is_there):
    file = existing(folder) if is_there else folder / FILE_NAME
    before = facts(file) if is_there else None
    for place in range(count := len(steps_of(world, folder))):

        def kill(_step, left=[place]):  # noqa: B006 - counts down in this round
            if left[0] == 0:
                raise KilledError
            left[0] -= 1

        with pytest.raises(KilledError):
            set_(world, folder, kill)
        world.recover()
        done = file.exists() and HELPER in file.read_text()
        assert done == (place == count - 1)
        if done:
            remove(world)
        assert (facts(file) if file.exists() else None) == before
        assert [each.name for each in folder.iterdir()] == ([FILE_NAME] if is_there else [])
        assert world.store.records == {}
        assert world.journals() == []


def test_an_error_at_any_step_leaves_all_as_it_was(world, folder):
    before = facts(existing(folder))
    for place in range(len(steps_of(world, folder)) - 1):
        left = [place]

        def fail(_step, left=left):
            if left[0] == 0:
                left[0] -= 1
                raise UnavailableError("the disk refused")
            left[0] -= 1

        with pytest.raises(UnavailableError):
            set_(world, folder, fail)
        assert facts(folder / FILE_NAME) == before
        assert world.journals() == []


@pytest.mark.parametrize("name", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"])
def test_a_key_for_everybody_is_refused_and_not_quoted(world, folder, name):
    (folder / FILE_NAME).write_text(json.dumps({"env": {name: "sk-ant-genuine"}}))
    with pytest.raises(MisuseError, match=name) as caught:
        set_(world, folder)
    assert "genuine" not in caught.value.explain()


@pytest.mark.parametrize("data", ['{"a": 1} // mine', '{"a": 1,}', "{"])
def test_what_claude_would_not_read_is_refused(world, folder, data):
    (folder / FILE_NAME).write_text(data)
    with pytest.raises(MisuseError, match="JSON"):
        set_(world, folder)
    assert (folder / FILE_NAME).read_text() == data


def test_a_file_that_changed_after_the_plan_was_shown_stops_it(world, folder):
    file = existing(folder)
    plan = plan_managed(folder, URL, HELPER, ())
    file.write_text("{}")
    with pytest.raises(MisuseError, match="changed"):
        apply_managed(plan, world.site())
    assert file.read_text() == "{}"


def test_a_folder_that_others_can_write_is_refused(world, folder):
    folder.chmod(0o777)
    with pytest.raises(IntegrityError, match="others than root"):
        set_(world, folder)


def test_a_link_is_not_followed(world, folder):
    target = world.root / "elsewhere"
    target.write_text("{}")
    (folder / FILE_NAME).symlink_to(target)
    with pytest.raises(MisuseError, match="symbolic link"):
        set_(world, folder)
    assert target.read_text() == "{}"


def test_twice_is_refused(world, folder):
    set_(world, folder)
    with pytest.raises(MisuseError, match="set already"):
        set_(world, folder)
