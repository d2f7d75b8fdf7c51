"""Each command against a broker in memory on real sockets: what it prints, what it asks, how it ends."""

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_broker import __version__
from agent_broker.audit.journal import Journal
from agent_broker.cli import app as cli_app
from agent_broker.cli.main import main
from agent_broker.clock import SystemClock
from agent_broker.errors import IntegrityError, MisuseError, RefusedError, UnavailableError
from agent_broker.grant.freeze import Freeze
from agent_broker.ids import AgentName, CredentialId, Uid
from agent_broker.vault.record import Credential
from tests.fakes.control import (
    NOON_NS,
    OWNER,
    FakeBroker,
    ServedBroker,
    decoy_opened,
    enrollment,
    image,
    lineage,
)


@pytest.fixture
def world() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def served(world: FakeBroker, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedBroker]:
    monkeypatch.setenv("AGENT_BROKER_ROOT", str(root))
    monkeypatch.setenv("COLUMNS", "80")
    with ServedBroker(world, root) as broker:
        yield broker


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def ab(served: ServedBroker, capsys: pytest.CaptureFixture[str]):
    def run(*words: str) -> Ran:
        code = main(words)
        out, err = capsys.readouterr()
        assert all(len(line) <= 80 for line in out.splitlines()) or "--json" in words
        return Ran(code, out, err)

    return run


def credential(name: str = "oauth") -> Credential:
    return Credential(
        CredentialId(f"claude/4711/{name}"), "anthropic-oauth", AgentName("claude"), OWNER, 3, NOON_NS, NOON_NS, {}
    )


def test_agents(ab, world: FakeBroker) -> None:
    assert (ab("agents").out, "no agent is enrolled" in ab("agents").err) == ("", True)
    world.enrollments.append(enrollment())
    shown = ab("agents").out
    for piece in ("claude of alice (4711)", enrollment().binaries[0].sha256, "claude/4711/oauth", "served the"):
        assert piece in shown
    assert ab("agents", "--json").json[0]["binaries"][0]["size_bytes"] == 239_000_000


def test_credentials_show_no_value(ab, world: FakeBroker) -> None:
    assert "the vault is empty" in ab("credentials").err
    world.vault["claude/4711/oauth"] = (credential(), b"sk-ant-secret")
    assert "claude/4711/oauth" in ab("credentials").out
    assert "secret" not in ab("credentials").out + ab("credentials", "--json").out
    assert ab("credentials", "--json").json[0]["version"] == 3


def test_alerts_stored(ab, world: FakeBroker) -> None:
    assert ab("alerts").err == "no alerts\n"
    world.incidents = [decoy_opened(what=f"number {number}") for number in range(3)]
    assert [line for line in ab("alerts", "--long", "--limit", "2").out.splitlines() if line.startswith("  what ")] == [
        "  what     number 1",
        "  what     number 2",
    ]
    lines = ab("alerts", "--json").out.splitlines()
    assert [json.loads(line)["what"] for line in lines] == ["number 0", "number 1", "number 2"]
    assert ab("alerts", "--json", "--limit", "0").out == ""


def test_a_reader_that_closes_the_pipe_is_no_error_to_talk_about(served: ServedBroker, world: FakeBroker) -> None:
    world.incidents = [decoy_opened() for _ in range(500)]
    command = f'"{sys.executable}" -c "import sys; from agent_broker.cli.main import main; sys.exit(main())" '
    done = subprocess.run(
        ["/bin/bash", "-c", f"{command} --root {served.layout.root} alerts --limit 500 | head -1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["time", "severity", "kind", "who", "path", "n", "id"]
    assert done.stderr == ""


def test_lineage(ab, world: FakeBroker) -> None:
    shown = ab("lineage", "4242").out
    assert shown.startswith("scanner <- bash <- claude.exe <- bash\n")
    assert ab("lineage", "4242", "--json").json["steps"][3]["relation"] == "fork"
    assert "no such process" in ab("lineage", "5").err
    assert ab("lineage", "5").code == MisuseError.exit_code
    world.processes[6] = lineage(image("systemd", observed=False))
    assert ab("lineage", "6").out.count("systemd\n") == 1
    world.processes[5] = lineage(image("/bin/x", observed=False, taints=("it was traced",)))
    assert "older than the monitor" in ab("lineage", "5").out
    assert "it was traced" in ab("lineage", "5").out


@pytest.mark.parametrize("pid", ["0", "-1", "4194305", "claude", ""])
def test_what_is_no_pid_is_misuse(ab, pid: str) -> None:
    assert ab("lineage", pid).code == 2


def test_freeze_and_thaw_an_agent(ab, world: FakeBroker) -> None:
    assert "nothing is frozen" in ab("freeze", "--list").err
    assert "thaw 1" in ab("freeze", "claude", "--user", "4711", "--reason", "because [red]").out
    assert world.freezes == [Freeze(1, "because [red]", NOON_NS, agent=AgentName("claude"), owner_uid=Uid(4711))]
    assert "because [red]" in ab("freeze", "--list").out
    assert ab("freeze", "--list", "--json").json[0]["id"] == 1
    assert ab("thaw", "claude", "--user", "4711").out == "thawed: 1 freeze\n"
    assert ab("thaw", "claude").code == MisuseError.exit_code


def test_freeze_a_process_thaw_by_number_and_all(ab, world: FakeBroker) -> None:
    assert ab("freeze", "4242", "--reason", "x", "--json").json["proc_ids"] == [4242]
    ab("freeze", "claude", "--reason", "y")
    assert world.freezes[1].owner_uid is None
    assert ab("thaw", "1", "--json").json == {"thawed": 1, "continued": 0, "out_of_reach": 0}
    assert ab("thaw", "--all").out == "thawed: 1 freeze\n"
    assert world.freezes == []


def test_thaw_says_who_goes_on_and_what_to_do_for_whom_it_can_not_reach(ab, world: FakeBroker) -> None:
    ab("freeze", "4242", "--reason", "x")
    ab("freeze", "claude", "--reason", "y")
    world.continued = 2
    done = ab("thaw", "1")
    assert (done.out, done.err) == ("thawed: 1 freeze; 2 stopped processes told to go on\n", "")
    world.continued, world.out_of_reach = 0, 1
    done = ab("thaw", "claude")
    assert done.out == "thawed: 1 freeze\n"
    assert "kill -CONT PID" in done.err


@pytest.mark.parametrize(
    "words",
    [
        ("freeze",),
        ("freeze", "claude"),
        ("freeze", "claude", "--reason", " "),
        ("freeze", "4242", "--user", "root", "--reason", "x"),
        ("freeze", "claude", "--user", "no-such-user-here", "--reason", "x"),
        ("thaw",),
        ("thaw", "claude", "--all"),
        ("thaw", "1", "--user", "root"),
        ("thaw", "7"),
        ("thaw", "--all"),
        ("nonsense",),
        ("alerts", "--limit", "-1"),
        ("alerts", "--since", "soon"),
        ("alert", "show"),
        ("alert", "ack", "12345", "--allow"),
        ("report", "12345"),
        ("run",),
        ("enroll",),
        ("enroll", "codex"),
        ("enroll", "claude", "--json"),
        ("unenroll", "claude", "--json"),
    ],
)
def test_misuse_is_2_changes_nothing_and_says_so_on_stderr_only(ab, world: FakeBroker, words: tuple[str, ...]) -> None:
    ran = ab(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err
    assert "Traceback" not in ran.err
    assert (world.freezes, world.reloads) == ([], 0)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (MisuseError("told so", next_step="do this"), 2),
        (RefusedError("rule", "told so", next_step="do this"), 3),
        (UnavailableError("told so", next_step="do this"), 4),
        (IntegrityError("told so", next_step="do this"), 5),
    ],
)
@pytest.mark.parametrize(
    "command", [("agents",), ("credentials",), ("lineage", "1"), ("alerts",), ("freeze", "--list")]
)
def test_errors_become_a_sentence_a_step_and_the_familys_code(
    ab, world: FakeBroker, failure: Exception, code: int, command: tuple[str, ...]
) -> None:
    world.failure = failure
    ran = ab(*command)
    assert (ran.code, ran.out, ran.err) == (code, "", "agent-broker: told so\n  do this\n")


def test_a_bug_is_a_sentence_without_its_text_unless_debugging(
    ab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise KeyError("sk-ant-secret")

    monkeypatch.setattr(cli_app, "command", broken)
    ran = ab("agents")
    assert ran.code == 1
    assert "failed inside: KeyError at " in ran.err
    assert "Traceback" not in ran.err
    assert "secret" not in ran.err
    monkeypatch.setenv("AGENT_BROKER_DEBUG", "1")
    assert "Traceback" in ab("agents").err


def test_doctor_healthy(ab) -> None:
    ran = ab("doctor")
    assert ran.code == 0
    assert ran.out.startswith(" TIER: observe+ ")
    assert "ptrace" in ran.out
    assert "enforce is not reached" in ran.out
    answer = ab("doctor", "--json").json
    assert (answer["healthy"], answer["tier"], answer["monitor"]["epoch"]) == (True, "observe+", "e1")


def test_doctor_with_the_monitor_down(ab, world: FakeBroker) -> None:
    world.monitor = None
    ran = ab("doctor")
    assert ran.code == UnavailableError.exit_code
    assert ran.out.startswith(" TIER: unknown ")
    assert "FAILED  monitor" in ran.out


def test_doctor_with_everything_down(ab, served: ServedBroker) -> None:
    served.stop()
    ran = ab("doctor")
    assert ran.code == UnavailableError.exit_code
    assert "FAILED  broker" in ran.out
    assert "FAILED  monitor" in ran.out
    assert "readable by root alone" in ran.out
    assert ab("doctor", "--json").json["broker"] is None


def test_doctor_does_not_wait_for_a_monitor_that_hangs(ab, served: ServedBroker, world: FakeBroker) -> None:
    world.monitor = None
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.bind(str(served.layout.monitor_socket))
        silent.listen()
        assert "does not answer in time" in ab("doctor").out


def test_doctor_names_the_line_of_a_bad_configuration(ab, served: ServedBroker) -> None:
    served.layout.config_folder.mkdir(parents=True)
    served.layout.config_file.write_text("[inject]\nprot = 1\n")
    ran = ab("doctor")
    assert ran.code == UnavailableError.exit_code
    assert "FAILED configuration" in " ".join(ran.out.split())
    assert "prot" in ran.out


def test_root_reads_by_its_own_socket_if_the_groups_is_gone(ab, served: ServedBroker) -> None:
    served.layout.read_socket.unlink()
    assert ab("agents").code == 0


def test_audit_verify_reads_the_files_itself(ab, served: ServedBroker) -> None:
    assert ab("audit", "verify").code == UnavailableError.exit_code
    served.layout.audit_folder.mkdir(parents=True)
    for path in (served.layout.audit_log, served.layout.alerts_log):
        journal = Journal.open(path, SystemClock())
        journal.append_now("started", {})
        journal.append_now("stopped", {})
        journal.close()
    served.stop()
    assert "intact" in ab("audit", "verify").err
    assert ab("audit", "verify", "--json").json["alerts"]["entries"] == 2
    content = served.layout.audit_log.read_bytes()
    served.layout.audit_log.write_bytes(content.replace(b"started", b"stopped"))
    assert ab("audit", "verify").code == IntegrityError.exit_code


def test_a_user_outside_the_group_is_told_how_and_doctor_claims_nothing(served: ServedBroker) -> None:
    served.layout.root.chmod(0o755)
    program = (
        "import os, sys\n"
        "from agent_broker.cli.main import main\n"
        "import agent_broker.cli.app, agent_broker.cli.doctor, agent_broker.cli.enroll\n"
        "os.setgroups([]); os.setgid(4711); os.setuid(4711)\n"
        "for words in (['doctor'], ['agents'], ['enroll', 'claude'], ['freeze', 'x', '--reason', 'y']):\n"
        "    print(main(['--root', sys.argv[1], *words]))\n"
        "print(main(['--root', sys.argv[1] + '/none', 'agents']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(served.layout.root)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["3", "3", "3", "3", "4"]
    assert done.stderr.count("sudo") == 4
    assert done.stderr.count("member of the group") == 2


def test_version_is_quick_and_needs_nothing() -> None:
    program = (
        "import sys\nfrom agent_broker.cli.main import main\ncode = main(['--version'])\n"
        "heavy = {'typer', 'rich', 'grpc', 'msgspec', 'asyncio'} & set(sys.modules)\nprint(heavy)\nsys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"agent-broker {__version__}\nset()\n"
    assert main(["--root", "/nowhere", "--version"]) == 0


def test_the_monitor_never_loads_the_vault_or_the_control_plane() -> None:
    program = (
        "import sys\nfrom agent_broker.cli import app\nimport agent_broker.cli.monitor\n"
        "print([name for name in sys.modules if name.startswith(('grpc', 'agent_broker.vault', 'cryptography'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_command_has_help_that_says_something(ab) -> None:
    for name in cli_app.COMMANDS:
        ran = ab(name, "--help")
        assert ran.code == 0
        assert "Usage: agent-broker" in ran.out
        assert f" {name} " in ab("--help").out
