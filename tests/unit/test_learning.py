"""Learn mode: bounded, for a time, kept over a restart; nothing is allowed."""

import msgspec
import pytest

from agent_broker.errors import IntegrityError, MisuseError
from agent_broker.monitor import learning
from agent_broker.monitor.learning import MAX_LEARN_S, MAX_PATHS, Learning, Lesson, begin, load_lessons

LESSON = Lesson(
    "/usr/bin/grep", "ab" * 32, "grep 3.8", "/home/ann/.ssh/id_*", "/home/ann/.ssh/id_a", 1000, ("grep", "bash")
)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "learnt.json"


def started(file):
    made = Learning(file)
    assert made.reload() == ""
    return made


async def test_opens_of_one_program_become_one_proposal(file):
    begin(file, 60)
    mode = started(file)

    for number in range(20):
        assert mode.learn(msgspec.structs.replace(LESSON, path=f"/home/ann/.ssh/id_{number}"))
    assert mode.learn(msgspec.structs.replace(LESSON, sha256="cd" * 32))
    mode.close()

    first, second = load_lessons(file).proposals
    assert (first.number, first.count, len(first.paths), first.lineage) == (1, 20, MAX_PATHS, ("grep", "bash"))
    assert (second.number, second.sha256) == (2, "cd" * 32)


async def test_it_survives_a_restart_and_goes_on(file):
    begin(file, 60)
    before = started(file)
    before.learn(LESSON)
    before.close()

    after = started(file)
    assert after.is_on
    after.learn(LESSON)
    after.close()

    assert [each.count for each in load_lessons(file).proposals] == [2]


async def test_it_ends_by_itself(file, monkeypatch):
    begin(file, 60)
    mode = started(file)
    now_ns = learning.time.time_ns()

    monkeypatch.setattr(learning.time, "time_ns", lambda: now_ns + 60_000_000_001)

    assert not mode.is_on
    assert not mode.learn(LESSON)


async def test_without_learning_nothing_is_learnt(file):
    mode = started(file)

    assert not mode.learn(LESSON)
    mode.close()
    assert not file.exists()


async def test_ending_it_keeps_what_was_learnt(file):
    begin(file, 60)
    mode = started(file)
    mode.learn(LESSON)
    mode.close()

    begin(file, 0)

    assert not started(file).is_on
    assert len(load_lessons(file).proposals) == 1


async def test_beginning_anew_forgets_and_is_not_overwritten(file):
    begin(file, 60)
    mode = started(file)
    mode.learn(LESSON)

    begun = begin(file, 120)
    mode.close()

    assert load_lessons(file) == begun


async def test_proposals_are_bounded_and_the_rest_is_told(file, monkeypatch):
    monkeypatch.setattr(learning, "MAX_PROPOSALS", 2)
    begin(file, 60)
    mode = started(file)

    taken = [mode.learn(msgspec.structs.replace(LESSON, sha256=each * 64)) for each in "abc"]

    assert taken == [True, True, False]
    assert mode.learn(msgspec.structs.replace(LESSON, sha256="a" * 64))
    mode.close()


@pytest.mark.parametrize("seconds", [-1, MAX_LEARN_S + 1])
def test_a_time_that_is_too_long_is_misuse(file, seconds):
    with pytest.raises(MisuseError):
        begin(file, seconds)


@pytest.mark.parametrize("content", [b"{", b'{"until_ns": "x"}', b"\xff"])
async def test_a_damaged_file_is_a_problem_and_teaches_nothing(file, content):
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(IntegrityError):
        load_lessons(file)

    mode = Learning(file)

    assert "nothing is learnt" in mode.reload()
    assert not mode.is_on


async def test_a_file_that_others_could_have_written_is_a_problem(file):
    begin(file, 60)
    file.chmod(0o666)

    assert "nothing is learnt" in Learning(file).reload()


async def test_names_that_are_not_text_can_be_kept(file):
    begin(file, 60)
    mode = started(file)

    mode.learn(msgspec.structs.replace(LESSON, path="/home/ann/.ssh/id_\udcff", lineage=("\udc80",)))
    mode.close()

    (proposal,) = load_lessons(file).proposals
    assert proposal.paths == ("/home/ann/.ssh/id_\\udcff",)
