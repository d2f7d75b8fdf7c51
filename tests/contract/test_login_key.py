"""``agent-broker login`` for API keys: read from the terminal without echo, or from stdin; replaces the old one."""

import pytest

from agent_broker.honeytoken.presented import digest_of
from agent_broker.identity.registry import DecoyFile, EnrolledBinary, Enrollment, RoleRule, save_enrollment
from agent_broker.inject.phantom import new_phantom
from tests.fakes.login_stage import UID, LoginStage

KEY = f"codex/{UID}/oauth"
NEW = "sk-proj-new-0123456789"
DECOY = "sk-proj-decoy-0123456789"


@pytest.fixture
def stage():
    with LoginStage() as made:
        made.enroll("codex", EnrolledBinary("/nowhere", "0" * 64, 1))
        decoys = (DecoyFile("/home/me/.codex/auth.json", "openai-key", values_sha256=(digest_of(DECOY),)),)
        folder = made.root / "var/lib/agent-broker/registry/agents"
        enrollment = Enrollment("codex", UID, "me", (), RoleRule(argv0_names=("codex",)), decoys, (KEY,), 0)
        save_enrollment(folder, enrollment)
        made.hold(KEY, "openai-api-key", b"sk-old")
        yield made


def test_a_key_typed_at_the_terminal_is_stored_and_not_shown(stage):
    terminal = stage.run(agent="codex")
    terminal.until("New value of")
    terminal.type_hidden(f"{NEW}\n")
    assert terminal.end() == 0
    assert stage.held("codex") == ("openai-api-key", 2, {"note": "kept"}, NEW.encode())
    assert NEW not in terminal.text
    assert terminal.is_restored


def test_a_key_from_stdin_is_stored(stage):
    done = stage.piped("--from-stdin", given=f"{NEW}\n", agent="codex")
    assert (done.returncode, done.stdout) == (0, "")
    assert stage.held("codex")[3] == NEW.encode()
    assert NEW not in done.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "visible ASCII"),
        ("short\n", "visible ASCII"),
        ("two words of a key\n", "visible ASCII"),
        ("sk-proj-\x1b[31m-0123456789\n", "visible ASCII"),
        ("sk-proj-é-0123456789\n", "visible ASCII"),
        ("k" * 20_000, "visible ASCII"),
        (f"{DECOY}\n", "the decoy that enrolment left"),
        pytest.param(f" {new_phantom()}\n", "the agent's phantom", id="phantom"),
    ],
)
def test_what_is_no_key_is_refused_and_not_quoted(stage, given, said):
    done = stage.piped("--from-stdin", given=given, agent="codex")
    assert done.returncode == 2
    assert said in done.stderr
    assert not given.strip() or given.strip() not in done.stderr
    assert stage.held("codex")[3] == b"sk-old"


def test_without_a_terminal_it_says_how(stage):
    done = stage.piped(given=NEW, agent="codex")
    assert (done.returncode, "add --from-stdin" in done.stderr) == (2, True)


def test_ctrl_c_at_the_question_changes_nothing(stage):
    terminal = stage.run(agent="codex")
    terminal.until("New value of")
    terminal.interrupt()
    assert terminal.end() != 0
    assert stage.held("codex")[3] == b"sk-old"
    assert terminal.is_restored


def test_a_broker_that_is_down_is_said_before_anything_is_asked(stage):
    stage.broker.stop()
    done = stage.piped("--from-stdin", given=NEW, agent="codex")
    assert done.returncode == 4
    assert stage.held("codex")[3] == b"sk-old"
