"""``enroll`` and ``unenroll`` as commands: a real home, real sockets, a broker in memory."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent_broker.cli.enroll import injection_url
from agent_broker.cli.main import main
from agent_broker.config.document import Inject
from agent_broker.errors import UnavailableError
from agent_broker.identity.registry import load_registry
from tests.fakes.control import FakeBroker, ServedBroker
from tests.fakes.enroll_world import SECRETS, UID, EnrollWorld
from tests.fakes.terminal import at_terminal

PROGRAM = "import sys; from agent_broker.cli.main import main; sys.exit(main())"


def whose(home: EnrollWorld) -> list[str]:
    return ["--user", str(UID), "--home", str(home.home)]


def enroll(home: EnrollWorld, *options: str) -> int:
    return main(["enroll", "claude", *whose(home), "--binary", str(home.binary), *options])


def test_enroll_shows_the_plan_and_does_it_and_unenroll_undoes_it(
    served: ServedBroker, world: FakeBroker, home: EnrollWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    before = home.snapshot()
    assert enroll(home, "--yes") == 0
    out, err = capsys.readouterr()
    for piece in ("~/.claude/settings.json", "~/.claude/.credentials.json", "what will happen", "claude/61234/oauth"):
        assert piece in out
    assert out.endswith("claude of 61234 is now enrolled\n")
    assert all(len(line) <= 80 for line in out.splitlines())
    assert err == ""
    assert not any(secret.decode() in out for secret in SECRETS)
    assert home.secrets_in_home() == set()
    assert {content for _, content in world.vault.values()} & set(SECRETS)
    assert [each.agent for each in load_registry(served.layout.registry_folder)] == ["claude"]
    assert (served.layout.policy_folder / "claude-61234.toml").is_file()
    settings = json.loads(home.settings.read_text().replace("// mine", ""))
    assert settings["env"]["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:917"
    assert settings["env"]["ANTHROPIC_AUTH_TOKEN"].startswith("phantom-of-claude-61234-")
    assert world.reloads == 1

    assert main(["unenroll", "claude", *whose(home), "--yes"]) == 0
    assert "is now not enrolled" in capsys.readouterr().out
    assert home.snapshot() == before
    assert (world.vault, world.originals, world.reloads) == ({}, {}, 2)
    assert main(["unenroll", "claude", *whose(home), "--yes"]) == 2


def test_json_of_a_dry_run_changes_nothing(
    served: ServedBroker, world: FakeBroker, home: EnrollWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    before = home.snapshot()
    served.stop()  # a dry run needs no broker
    assert enroll(home, "--dry-run", "--json", "--deny-decoys") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["report"] is None
    assert [decoy["deny"] for decoy in answer["plan"]["decoys"]] == [True]
    assert {row["file"] for row in answer["plan"]["files"]} >= {str(home.settings), str(home.credentials)}
    assert not any(secret.decode() in json.dumps(answer) for secret in SECRETS)
    assert (home.snapshot(), world.vault) == (before, {})


def test_json_of_the_real_thing(served: ServedBroker, home: EnrollWorld, capsys: pytest.CaptureFixture[str]) -> None:
    assert enroll(home, "--yes", "--json") == 0
    assert json.loads(capsys.readouterr().out)["report"]["summary"] == "enrolled"
    assert main(["unenroll", "claude", *whose(home), "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"]["summary"] == "not enrolled"
    assert main(["enroll", "--recover", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"reports": []}


def test_the_configuration_decides_address_and_decoys(
    served: ServedBroker, home: EnrollWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    served.layout.config_folder.mkdir(parents=True)
    served.layout.config_file.write_text("[inject]\nport = 918\n[decoys]\ndeny = true\n")
    assert enroll(home, "--yes") == 0
    assert "others are denied" in " ".join(capsys.readouterr().out.split())
    assert "http://127.0.0.1:918" in home.settings.read_text()
    assert load_registry(served.layout.registry_folder)[0].decoys[0].deny


def test_nobody_to_ask_is_misuse_and_changes_nothing(
    served: ServedBroker, world: FakeBroker, home: EnrollWorld
) -> None:
    before = home.snapshot()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "enroll", "claude", *whose(home), "--binary", str(home.binary)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert "what will happen" in done.stdout
    assert (home.snapshot(), world.vault, world.reloads) == (before, {}, 0)


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 1), (b"\n", 1), (b"\x03", 1)])
def test_a_person_is_asked(
    served: ServedBroker, world: FakeBroker, home: EnrollWorld, answer: bytes, code: int
) -> None:
    words = ("enroll", "claude", *whose(home), "--binary", home.binary)
    exit_code, said = at_terminal((sys.executable, "-c", PROGRAM, *words), lambda _: answer)
    assert exit_code == code, said
    assert bool(world.vault) == (code == 0)
    assert b"Traceback" not in said


def test_an_agent_that_runs_is_refused_with_nothing_changed_unless_told_otherwise(
    served: ServedBroker, world: FakeBroker, home: EnrollWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    home.binary.unlink()
    shutil.copy(Path("/bin/sleep").resolve(), home.binary)
    home.binary.chmod(0o755)
    before = home.snapshot()
    with subprocess.Popen([home.binary, "1000"], user=home.owner.uid) as agent:
        try:
            assert enroll(home, "--yes") == 2
            assert f"claude runs now (pid {agent.pid})" in capsys.readouterr().err
            assert (home.snapshot(), world.vault) == (before, {})
            assert enroll(home, "--yes", "--while-running") == 0
        finally:
            agent.kill()


def test_a_broker_that_is_down_is_found_out_before_anything_is_asked(
    served: ServedBroker, home: EnrollWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    before = home.snapshot()
    served.stop()
    assert enroll(home, "--yes") == UnavailableError.exit_code
    assert capsys.readouterr().out == ""
    assert home.snapshot() == before


def test_a_broker_that_fails_half_way_leaves_everything_as_it_was(
    served: ServedBroker, world: FakeBroker, home: EnrollWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    before = home.snapshot()
    original = world.make_phantom

    async def fail(*_: object) -> None:
        raise UnavailableError("the disk is full", next_step="make room")

    world.make_phantom = fail  # type: ignore[method-assign, assignment]  # the world changes
    assert enroll(home, "--yes") == UnavailableError.exit_code
    assert "the disk is full" in capsys.readouterr().err
    assert (home.snapshot(), world.vault, world.originals) == (before, {}, {})
    world.make_phantom = original  # type: ignore[method-assign]  # the world changes
    assert enroll(home, "--yes") == 0


def test_whose_agent_is_said_by_sudo_or_must_be_said(
    served: ServedBroker, home: EnrollWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["enroll", "claude", "--home", str(home.home), "--binary", str(home.binary), "--dry-run"]
    assert main(words) == 2
    assert "--user" in capsys.readouterr().err
    monkeypatch.setenv("SUDO_USER", str(UID))
    assert main(words) == 0


@pytest.mark.parametrize(("address", "url"), [("127.0.0.1", "http://127.0.0.1:917"), ("::1", "http://[::1]:917")])
def test_the_address_that_agents_are_given(address: str, url: str) -> None:
    assert injection_url(Inject(address=address)) == url


def test_the_home_given_to_unenroll_is_checked(
    served: ServedBroker, home: EnrollWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enroll(home, "--yes") == 0
    assert main(["unenroll", "claude", "--user", str(UID), "--home", str(tmp_path), "--yes"]) == 2
    assert "does not belong to user" in capsys.readouterr().err
    assert main(["unenroll", "claude", "--user", str(UID), "--yes"]) == 0
