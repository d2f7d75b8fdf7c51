"""Attacks on how the agent is started: foreign code in the genuine binary, and what is not the genuine binary."""

import shutil
from pathlib import Path

from tests.demo.processes import outcome
from tests.e2e.attacks.row import USE, Row
from tests.e2e.attacks.trial import PATIENCE_S, Trial, wait_until_gone

_HIJACK = "T1574"
_LOADER = "T1574.006"
_MASQUERADE = "T1036.005"
_OWN_RIGHT = "nothing: it is the agent, started by its user"


def _preload_script(trial: Trial) -> None:
    trial.agent(BUN_OPTIONS=f"--preload {trial.arena.program('evil.js')}")


def _preload_library(trial: Trial) -> None:
    trial.agent(LD_PRELOAD=str(trial.arena.program("evil.so")))


def _audit_library(trial: Trial) -> None:
    trial.agent(LD_AUDIT=str(trial.arena.program("evil.so")))


def _library_path(trial: Trial) -> None:
    folder = trial.loot / "libraries"
    folder.mkdir()
    shutil.copy(trial.arena.program("evil.so"), folder / "libdl.so.2")
    trial.agent(LD_LIBRARY_PATH=str(folder))


def _conversion_modules(trial: Trial) -> None:
    trial.agent(prompt=trial.nonce, GCONV_PATH=str(trial.arena.folder))


def _loader(trial: Trial) -> None:
    loader = next(Path("/lib64").glob("ld-linux-*.so.*"), None) or next(Path("/lib").glob("ld-linux-*.so.*"))
    script = f'exec -a claude {loader} --preload "$ATTACK_EVIL" "$ATTACK_AGENT" -p "$ATTACK_NONCE"'
    trial.run("/bin/bash", "-c", script)


def _odd(how: str) -> "Row":
    what = {"memfd": "copy in memory only (memfd)", "tmpfile": "copy without a name (O_TMPFILE)"}
    technique = f"{what.get(how, 'copy that is deleted')}, run by fexecve"
    return Row(how, technique, lambda trial: trial.python("odd_executable", how) and None, mitre="T1620")


def _named(trial: Trial) -> None:
    trial.run("/bin/bash", "-c", 'exec -a claude "$ATTACK_USE"')


def _renamed(trial: Trial) -> None:
    shutil.copy(trial.arena.program("use"), trial.loot / "claude")
    trial.run(trial.loot / "claude")


def _copied(trial: Trial) -> None:
    shutil.copy(trial.arena.agent, trial.loot / "claude")
    trial.ran = bool(trial.run(trial.loot / "claude", "-p", trial.nonce))


def _symbolic_link(trial: Trial) -> None:
    (trial.loot / "claude").symlink_to(trial.arena.agent.resolve())
    trial.ran = bool(trial.run(trial.loot / "claude", "-p", trial.nonce))


def _hard_link(trial: Trial) -> None:
    trial.run("/bin/ln", trial.arena.agent.resolve(), trial.loot / "claude")
    trial.ran = bool(trial.run(trial.loot / "claude", "-p", trial.nonce))
    (trial.loot / "claude").unlink()


def _other_role(trial: Trial) -> None:
    script = 'exec -a claude-helper "$ATTACK_AGENT" -p "$ATTACK_NONCE"'
    trial.ran = bool(trial.run("/bin/bash", "-c", script))


def _genuine(trial: Trial) -> None:
    trial.agent(prompt=trial.nonce)


def _swapped(how: str) -> "Row":
    techniques = {
        "rename": "binary renamed away while its hash is taken",
        "in-place": "agent's file overwritten, run, and put right again",
        "mapping": "writable shared mapping of the agent's file",
    }

    def attack(trial: Trial) -> None:
        trial.python("swapped_binary", how, trial.arena.program("use"))

    return Row(f"swap-{how}", techniques[how], attack, alert=how != "mapping", mitre="T1554")


def _reused_pid(trial: Trial) -> None:
    process = trial.start(trial.arena.agent, "-p", "work")
    outcome(process, PATIENCE_S)
    wait_until_gone(process.pid)
    trial.pids = {process.pid}
    user = trial.world.user
    command = ("/usr/bin/python3", trial.arena.program("with_pid.py"), process.pid, user.pw_uid, user.pw_gid)
    trial.run_as_root(*map(str, command), str(trial.arena.program("use")))


ROWS = (
    Row("bun-options", "BUN_OPTIONS=--preload=evil.js claude", _preload_script, mitre=_HIJACK),
    Row("ld-preload", "LD_PRELOAD=evil.so claude", _preload_library, mitre=_LOADER),
    Row("ld-audit", "LD_AUDIT=evil.so claude", _audit_library, mitre=_LOADER),
    Row("ld-library-path", "LD_LIBRARY_PATH with a foreign libdl.so.2", _library_path, mitre=_LOADER),
    Row("gconv-path", "GCONV_PATH=modules claude", _conversion_modules, mitre=_HIJACK),
    Row("loader", "ld.so --preload evil.so claude", _loader, mitre="T1218"),
    _odd("memfd"),
    _odd("tmpfile"),
    _odd("deleted"),
    Row("exec-a", "exec -a claude evil", _named, mitre=_MASQUERADE),
    Row("renamed", "evil program, named claude", _renamed, mitre=_MASQUERADE),
    Row("copied", "the agent's binary in another place", _copied, mitre=_MASQUERADE),
    Row("symlink", "symbolic link to the agent", _symbolic_link, USE, alert=False, stopped_by=_OWN_RIGHT),
    Row("hard-link", "hard link to the agent", _hard_link, USE, alert=False, stopped_by=_OWN_RIGHT),
    Row("other-role", "the agent's binary under another argv[0]", _other_role, mitre=_MASQUERADE),
    Row("genuine", "the agent, started by the attacker", _genuine, USE, alert=False, stopped_by=_OWN_RIGHT),
    _swapped("rename"),
    _swapped("in-place"),
    _swapped("mapping"),
    Row("pid-reuse", "a process with the pid of an agent that ended", _reused_pid),
)
