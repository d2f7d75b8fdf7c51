"""``agent-broker login``: in a room of its own, into the vault in one step, and nothing is left anywhere."""

import json
import os
import signal
from pathlib import Path

import pytest

from agent_broker.enroll import login_process, login_room
from agent_broker.enroll.login_agents import LOGINS
from agent_broker.errors import AgentBrokerError, UnavailableError
from agent_broker.identity.executable import hash_open_file
from agent_broker.identity.registry import load_registry
from tests.fakes.login_stage import CLAUDE_FILE, CLAUDE_LOGIN, SIGNALS, LoginStage, as_user, gone

WRITE = f"leave({CLAUDE_FILE!r}, {{'claudeAiOauth': {CLAUDE_LOGIN!r}, 'mcpOAuth': {{}}}})"
WAIT = "print('pid', os.getpid(), flush=True); ask('visit https://login.example/')"
OLD = ("anthropic-oauth", 1, {"note": "kept"}, b'{"old": "login"}')


@pytest.fixture
def stage():
    with LoginStage() as made:
        yield made


def room_pid(stage, terminal):
    """The number of the agent outside of its room."""
    terminal.until(r"visit https://login.example/")
    (pid,) = stage.in_room()
    return pid


def nothing_left(stage):
    mounts = Path("/proc/self/mounts").read_text()
    names = {each.name for each in (stage.root / "run/agent-broker").iterdir()}
    return (
        str(stage.root) not in mounts and names <= {"admin.sock", "read.sock"} and not (stage.home / ".claude").exists()
    )


def test_a_login_becomes_a_new_version_of_the_credential(stage):
    stage.stand_in("assert sys.argv[1:] == ['auth', 'login'], sys.argv", "print('code', ask('the code?'))", WRITE)
    terminal = stage.run()
    terminal.until("the code?")
    terminal.type("1234\n")
    assert terminal.end() == 0
    kind, version, attributes, secret = stage.held()
    assert (kind, version, attributes) == ("anthropic-oauth", 2, {"note": "kept"})
    assert json.loads(secret) == CLAUDE_LOGIN
    assert "code 1234" in terminal.text
    assert "is renewed (version 2)" in terminal.text
    assert "new-" not in terminal.text
    assert terminal.is_restored
    assert nothing_left(stage)


def test_the_agent_has_nothing_of_the_persons_or_of_roots(stage):
    stage.stand_in(
        "print(sorted(os.environ), os.getuid() == os.getgid(), os.getgroups(), flush=True)",
        "print('ppid', os.getppid(), os.listdir(home), os.listdir('/tmp'), os.listdir('/var/tmp'), flush=True)",
        "print('core', __import__('resource').getrlimit(4), open('/proc/self/status').read(), flush=True)",
        "print('proc', sorted(each for each in os.listdir('/proc') if each.isdigit()), flush=True)",
        "print('tty', os.ttyname(0), os.listdir('/proc/self/fd'))",
        WRITE,
    )
    terminal = stage.run()
    assert terminal.end() == 0
    text = terminal.text
    environment = text[text.index("[") : text.index("]") + 1]
    assert set(json.loads(environment.replace("'", '"'))) <= {
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_AUTOUPDATER", "HOME", "LC_CTYPE", "PATH", "TERM", "TMPDIR",
    }  # fmt: skip
    assert "True []" in text
    assert "ppid 1 [] [] []" in text
    assert "core (0, 0)" in text
    assert "NoNewPrivs:\t1" in text
    assert "CapEff:\t0000000000000000" in text
    assert "proc ['1', '2']" in text
    assert os.ttyname(terminal._slave) not in text


def test_the_persons_processes_reach_nothing_of_the_room(stage):
    stage.stand_in(WRITE, WAIT)
    terminal = stage.run()
    pid = room_pid(stage, terminal)
    home = f"/proc/{pid}/root{stage.root}/run/agent-broker/home"
    assert json.loads(Path(home, CLAUDE_FILE).read_bytes())["claudeAiOauth"] == CLAUDE_LOGIN  # root sees it
    tty = str(Path(f"/proc/{pid}/fd/0").readlink())
    for attempt in (
        ("cat", f"{home}/{CLAUDE_FILE}"),
        ("ls", f"/proc/{pid}/root/"),
        ("ls", f"/proc/{pid}/cwd/"),
        ("ls", f"/proc/{pid}/fd/"),
        ("cat", f"/proc/{pid}/environ"),
        ("head", "-c1", f"/proc/{pid}/mem"),
        ("cat", f"/proc/{pid}/maps"),
        ("kill", str(pid)),
        ("head", "-c1", tty),
        ("sh", "-c", f"echo > {tty}"),
        ("cat", f"{stage.root}/run/agent-broker/home/{CLAUDE_FILE}"),
    ):
        done = as_user(*attempt)
        assert done.returncode != 0, attempt
        assert b"new-" not in done.stdout + done.stderr
    terminal.type("\n")
    assert terminal.end() == 0


def test_what_the_agent_left_running_dies_with_the_room(stage):
    stage.stand_in(
        WRITE, "if os.fork() == 0: os.setsid(); time.sleep(10000)", "if os.fork() == 0: time.sleep(10000)", WAIT
    )
    terminal = stage.run()
    terminal.until("visit")
    pids = stage.in_room()
    assert len(pids) == 3
    terminal.type("\n")
    assert terminal.end() == 0
    assert all(gone(pid) for pid in pids)


def test_three_times_ctrl_c_end_an_agent_that_does_not_listen(stage):
    stage.stand_in("import tty; tty.setraw(0)", "print('\\r\\nvisit', flush=True)", "while True: time.sleep(1)")
    terminal = stage.run()
    terminal.until("visit")
    pids = stage.in_room()
    terminal.type("\x03\x03\x03")
    assert terminal.end() == 130
    assert all(gone(pid) for pid in pids)
    assert (stage.held(), terminal.is_restored, nothing_left(stage)) == (OLD, True, True)


def test_one_ctrl_c_is_the_agents(stage):
    stage.stand_in(WAIT)
    terminal = stage.run()
    room_pid(stage, terminal)
    terminal.type("\x03")
    assert terminal.end() == 2
    assert "ended without a login" in terminal.text
    assert (stage.held(), nothing_left(stage)) == (OLD, True)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_login_that_is_killed_leaves_nothing(stage, number):
    stage.stand_in(WRITE, WAIT)
    terminal = stage.run()
    pid = room_pid(stage, terminal)
    terminal.process.send_signal(number)
    terminal.end()
    assert gone(pid)
    assert (stage.held(), nothing_left(stage)) == (OLD, True)
    assert terminal.is_restored or number == signal.SIGKILL  # nobody can tidy up then: `reset` does


def test_a_room_whose_first_process_is_stopped_dies_with_the_command(stage):
    stage.stand_in(WRITE, WAIT)
    terminal = stage.run()
    pid = room_pid(stage, terminal)
    first = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert b"login_process" in Path(f"/proc/{first}/cmdline").read_bytes()
    os.kill(first, signal.SIGSTOP)
    terminal.process.kill()
    assert gone(first)
    assert gone(pid)
    assert (stage.held(), nothing_left(stage)) == (OLD, True)


BAD = {
    "nothing": ("pass", "ended without a login"),
    "not JSON": (f"leave({CLAUDE_FILE!r}, 'claudeAiOauth')", "not what this version knows"),
    "another object": (f"leave({CLAUDE_FILE!r}, {{'oauth': {{}}}})", "not what this version knows"),
    "no refresh token": (
        f"leave({CLAUDE_FILE!r}, {{'claudeAiOauth': {{'accessToken': 'a', 'refreshToken': ''}}}})",
        "not what this version knows",
    ),
    "odd end": (
        f"leave({CLAUDE_FILE!r}, {{'claudeAiOauth': {{'accessToken': 'a', 'refreshToken': 'b', 'expiresAt': ''}}}})",
        "can't be read",
    ),
    "too long": (f"leave({CLAUDE_FILE!r}, ' ' * (1 << 19))", "not a file of its own"),
    "a link": (
        f"os.makedirs(home + '/.claude'); os.symlink('/etc/shadow', home + '/{CLAUDE_FILE}')",
        "not a file of its own",
    ),
    "a linked folder": ("os.symlink('/etc', home + '/.claude')", "not a file of its own"),
    "a queue": (f"os.makedirs(home + '/.claude'); os.mkfifo(home + '/{CLAUDE_FILE}')", "not a file of its own"),
    "a folder": (f"os.makedirs(home + '/{CLAUDE_FILE}')", "not a file of its own"),
    "a crash": ("os.kill(os.getpid(), 9)", "ended without a login"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_login_changes_nothing(stage, what):
    line, said = BAD[what]
    stage.stand_in(line)
    terminal = stage.run()
    assert terminal.end() != 0
    assert said in " ".join(terminal.text.split())
    assert (stage.held(), nothing_left(stage)) == (OLD, True)


def test_an_agent_that_stays_is_ended_when_its_login_is_there(stage):
    login = {"access_token": "new-a", "refresh_token": "new-r", "expiry_date": 4102444800000}
    stage.stand_in(
        "settings = json.load(open(home + '/.gemini/settings.json'))",
        "assert settings['security']['auth']['selectedType'] == 'oauth-personal'",
        "assert os.environ['NO_BROWSER'] == 'true'",
        f"leave('.gemini/oauth_creds.json', {json.dumps(login)[:30]!r})",
        "time.sleep(1)",
        f"leave('.gemini/oauth_creds.json', {login!r})",
        "while True: time.sleep(1)",
        agent="gemini",
    )
    terminal = stage.run(agent="gemini")
    assert terminal.end() == 0
    assert json.loads(stage.held("gemini")[3]) == login


def test_an_executable_that_is_not_the_enrolled_one_is_not_run(stage):
    program = stage.stand_in(WRITE)
    program.write_text(program.read_text() + "# changed\n")
    terminal = stage.run()
    assert terminal.end() == 2
    assert "sudo agent-broker approve claude" in terminal.text
    assert stage.held() == OLD


def test_an_executable_that_is_changed_after_it_was_looked_at_is_not_run(stage, monkeypatch):
    program = stage.stand_in(WRITE)
    enrolled = load_registry(stage.root / "var/lib/agent-broker/registry/agents")[0]

    def change_it_then(fd):
        digest = hash_open_file(fd)
        program.write_text("#!/bin/sh\ntouch /var/tmp/was-run\n")
        return digest

    monkeypatch.setattr(login_room, "hash_open_file", change_it_then)
    master, slave = os.openpty()
    try:
        with pytest.raises(UnavailableError, match="claude is not what was enrolled: nothing was changed"):
            login_room.log_in(
                enrolled, LOGINS["anthropic-oauth"], folder=stage.root / "run/agent-broker", terminal_fd=slave,
                environment={}, hand_over=lambda _: None,
            )  # fmt: skip
    finally:
        os.close(master)


def test_two_logins_at_once_are_one_too_many(stage):
    stage.stand_in(WRITE, WAIT)
    first = stage.run()
    room_pid(stage, first)
    second = stage.run()
    assert second.end() == 4
    assert "another login is under way" in second.text
    first.type("\n")
    assert first.end() == 0


def test_who_is_not_enrolled_is_told_so(stage):
    stage.stand_in(WRITE)
    for words, agent, said in (
        ((), "codex", "codex is not enrolled for user"),
        (("--credential", "nothing"), "claude", "which credential is meant: oauth"),
        (("--credential", "phantom"), "claude", "which credential is meant: oauth"),
        (("--device",), "claude", "--device is for codex only"),
        (("--from-stdin",), "claude", "is a login, not a key"),
        ((), "claude", "a login needs a terminal"),
    ):
        done = stage.piped(*words, agent=agent) if words or agent != "claude" else stage.piped()
        if words == ("--device",):
            terminal = stage.run(*words)
            terminal.end()
            assert said in terminal.text
            continue
        assert done.returncode == 2
        assert said in done.stderr
    assert stage.held() == OLD


def test_nothing_is_killed_outside_of_a_room(monkeypatch):
    killed = []
    monkeypatch.setattr(os, "kill", lambda *words: killed.append(words))  # so that a mistake here ends nobody
    monkeypatch.setattr(os, "getpid", lambda: 4711)
    monkeypatch.setattr(os, "waitpid", lambda *_: (_ for _ in ()).throw(ChildProcessError))
    with pytest.raises(AgentBrokerError, match="no process namespace"):
        login_process._end_all()
    assert killed == []
