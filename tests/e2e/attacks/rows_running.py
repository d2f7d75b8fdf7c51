"""Attacks on a running agent: its memory, and its connections."""

from collections.abc import Callable

from tests.e2e.attacks.row import Row
from tests.e2e.attacks.trial import Trial

_HIJACK = "T1563"


def _tamper(name: str, how: str, mitre: str, technique: str) -> Row:
    def attack(trial: Trial) -> None:
        _change_prompt(trial, lambda pid, old: trial.python("tamper", how, pid, old, trial.nonce))

    return Row(name, technique, attack, mitre=mitre)


def _gdb(trial: Trial) -> None:
    def change(pid: int, old: str) -> str:
        script = trial.arena.program("in_gdb.py")
        command = ("/usr/bin/gdb", "-nx", "-p", str(pid), "-batch", "-x", script)
        return trial.run(*command, GDB_OLD=old, GDB_NEW=trial.nonce)

    _change_prompt(trial, change)


def _change_prompt(trial: Trial, change: Callable[[int, str], str]) -> None:
    """Have an agent whose prompt is changed in its memory; ``change`` gets its pid and the prompt."""
    prompt = "harmless" + trial.nonce[8:]
    with trial.live_agent(prompt) as agent:
        change(agent.pid, prompt)
        trial.require_ran()
        trial.keep(agent.finish())
    trial.keep_transcripts()


def _read_memory(trial: Trial) -> None:
    with trial.live_agent() as agent:
        trial.python("tamper", "read", agent.pid)


def _borrowed(how: str, technique: str) -> Row:
    def attack(trial: Trial) -> None:
        with trial.live_agent() as agent:
            trial.python("borrowed_socket", how, agent.pid)
            if how == "prefix":
                trial.keep(agent.finish())

    return Row(f"getfd-{how}", technique, attack, mitre=_HIJACK)


def _own(name: str, how: str, way: str, technique: str) -> Row:
    def attack(trial: Trial) -> None:
        trial.answers(tool="sleep 2")
        trial.python("own_socket", how, way)

    return Row(name, technique, attack)


ROWS = (
    Row("mem-read", "phantom out of /proc/PID/mem, replayed", _read_memory, mitre="T1003.007"),
    _tamper("mem-write", "mem", "T1055.009", "prompt changed by /proc/PID/mem"),
    _tamper("vm-write", "vm", "T1055", "prompt changed by process_vm_writev"),
    _tamper("ptrace-attach", "attach", "T1055.008", "prompt changed by a debugger (PTRACE_ATTACH)"),
    _tamper("ptrace-seize", "seize", "T1055.008", "prompt changed by PTRACE_SEIZE, INTERRUPT"),
    Row("gdb", "prompt changed by gdb -p", _gdb, mitre="T1055.008"),
    _borrowed("close", "request into the agent's connection, closed"),
    _borrowed("keep", "request into the agent's connection, kept"),
    _borrowed("passed", "agent's connection passed by SCM_RIGHTS"),
    _borrowed("flight", "agent's connection in flight while judged"),
    _borrowed("prefix", "beginning of a request, before the agent's own"),
    _own("two-holders", "holders", "tcp", "connection shared with an agent one started"),
    _own("dead-parent", "dead-parent", "tcp", "connection inherited from a dead writer"),
    _own("exec-over", "exec", "tcp", "request written, then exec of the agent"),
    _own("exec-over-unix", "exec", "unix", "the same on the unix socket"),
)
