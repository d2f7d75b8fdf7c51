"""``enroll`` while the agent writes its files: found out, planned anew, asked again, and not for ever."""

import json
import sys

import pytest

from agent_broker.cli.main import main
from agent_broker.cli.replanning import MAX_NEW_PLANS
from tests.fakes.control import FakeBroker, ServedBroker
from tests.fakes.enroll_world import SECRETS, SETTINGS, UID, EnrollWorld
from tests.fakes.terminal import at_terminal

PROGRAM = "import sys; from agent_broker.cli.main import main; sys.exit(main())"
AGAIN = "The plan is made anew"


def command(home: EnrollWorld, *options: str) -> list[str]:
    return ["enroll", "claude", "--user", str(UID), "--home", str(home.home), "--binary", str(home.binary), *options]


def agent_writes(world: FakeBroker, home: EnrollWorld, times: int) -> list[str]:
    """Let the agent write its settings while the vault is being filled, so often; return what it wrote."""
    put_original, written = world.put_original, []

    async def put(*arguments: object) -> None:
        await put_original(*arguments)  # type: ignore[arg-type]  # handed on as they came
        if len(written) < times and len(world.originals) == 1:
            written.append(SETTINGS.replace("opus", f"sonnet {len(written)}"))
            home.make(home.claude / "tmp", written[-1], mode=0o644).rename(home.settings)

    world.put_original = put  # type: ignore[method-assign]  # the world changes
    return written


@pytest.mark.parametrize("times", [1, MAX_NEW_PLANS])
def test_what_the_agent_wrote_meanwhile_is_planned_anew(
    served: ServedBroker, world: FakeBroker, home: EnrollWorld, capsys: pytest.CaptureFixture[str], times: int
) -> None:
    written = agent_writes(world, home, times)
    assert main(command(home, "--yes")) == 0
    out, err = capsys.readouterr()
    assert err.count(AGAIN) == times == len(written)
    assert str(home.settings) in err
    assert out.count("what will happen") == times + 1
    assert home.secrets_in_home() == set()
    assert f"sonnet {times - 1}" in home.settings.read_text()
    assert main(["unenroll", "claude", "--user", str(UID), "--home", str(home.home), "--yes"]) == 0
    assert home.settings.read_text() == written[-1]


def test_what_is_written_all_the_time_is_given_up(
    served: ServedBroker, world: FakeBroker, home: EnrollWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    before = home.snapshot()
    written = agent_writes(world, home, 1000)
    assert main(command(home, "--yes")) == 2
    err = capsys.readouterr().err
    assert len(written) == MAX_NEW_PLANS + 1
    assert err.count(AGAIN) == MAX_NEW_PLANS
    assert "stop the agent" in err
    assert home.settings.read_text() == written[-1]
    assert {name: facts for name, facts in home.snapshot().items() if not name.endswith("settings.json")} == {
        name: facts for name, facts in before.items() if not name.endswith("settings.json")
    }
    assert (world.vault, world.originals) == ({}, {})
    assert not any(secret.decode() in err for secret in SECRETS)


def test_json_shows_the_plan_that_was_carried_out(
    served: ServedBroker, world: FakeBroker, home: EnrollWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    agent_writes(world, home, 1)
    assert main(command(home, "--yes", "--json")) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["report"]["summary"] == "enrolled"


def test_a_person_is_asked_again(served: ServedBroker, world: FakeBroker, home: EnrollWorld) -> None:
    """The agent writes while the question stands; the new plan is another question."""

    def answer(question: int) -> bytes:
        if question == 1 and "sonnet" not in home.settings.read_text():
            home.make(home.settings, SETTINGS.replace("opus", "sonnet"), mode=0o644)
        return b"y\n" if question == 1 else b"n\n"

    code, told = at_terminal((sys.executable, "-c", PROGRAM, *command(home)), answer)
    said = told.decode()
    assert code == 1, said
    assert said.count("[y/N]:") == 2
    assert AGAIN in " ".join(said.split())
    assert said.count("what will happen") == 2
    assert (world.vault, world.originals) == ({}, {})
    assert "sonnet" in home.settings.read_text()
