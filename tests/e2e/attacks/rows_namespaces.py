"""Attacks by which the genuine agent runs in a world of the attacker's: user, mount and root."""

from tests.e2e.attacks.row import Row
from tests.e2e.attacks.trial import Trial


def _namespace(how: str, technique: str) -> Row:
    def attack(trial: Trial) -> None:
        trial.run(trial.arena.program("namespaces.sh"), how)

    return Row(f"userns-{how}", technique, attack, mitre="T1574")


ROWS = (
    _namespace("library", "user + mount namespace, a file of libc replaced"),
    _namespace("preload", "user + mount namespace, own ld.so.preload"),
    _namespace("mounted", "the agent's bytes on a file system of one's own"),
    _namespace("chroot", "chroot with foreign libraries, agent hard-linked"),
)
