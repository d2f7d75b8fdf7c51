"""A keyring backend whose file is sealed by ``systemd-creds``: to this machine's host key, and its TPM2 if it has one.

So a copy of the file (a backup, a stolen disk without ``/var``) is worthless elsewhere. Secrets pass by standard input
and output, never by argument, and the program runs with an empty environment: SYSTEMD_CREDENTIAL_SECRET would name
another host key.
"""

import shutil
import subprocess
from typing import ClassVar

from agent_broker.errors import IntegrityError, UnavailableError
from agent_broker.vault.root_key_file import KeyFileKeyring

_NAME = "agent-broker-root-key"  # sealed with the content: another credential's file does not open under it
_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
_TIMEOUT_S = 30  # a TPM2 answers in a few seconds


class SystemdCredsKeyring(KeyFileKeyring):
    """Passwords as JSON in one private file that systemd-creds encrypted."""

    command: ClassVar[tuple[str, ...]] = ("systemd-creds",)
    """Found in the system's folders alone."""

    def describe(self) -> str:
        """Return one sentence: what the key is sealed to.

        Raises:
            UnavailableError: systemd-creds is not installed.
        """
        has_tpm2 = self._finished("has-tpm2", "--quiet", given=b"").returncode == 0
        keys = "this machine's TPM2 and host key" if has_tpm2 else "this machine's host key (it has no usable TPM2)"
        return (
            f"in the file {self.path}, sealed by systemd-creds to {keys}: root can open the vault, a copy elsewhere not"
        )

    def _opened(self, content: bytes) -> bytes:
        return self._run("decrypt", given=content)

    def _closed(self, entries: bytes) -> bytes:
        return self._run("encrypt", "--with-key=auto", given=entries)

    def _run(self, verb: str, *options: str, given: bytes) -> bytes:
        done = self._finished(verb, f"--name={_NAME}", *options, "-", "-", given=given)
        if done.returncode == 0:
            return done.stdout
        reason = "".join(done.stderr.decode(errors="replace").strip().splitlines()[-1:]) or "it gives no reason"
        if verb == "encrypt":
            raise UnavailableError(
                f"systemd-creds can't seal {self.path}: {reason}",
                next_step='see systemd-creds(1), or set [vault] root_key = "file" in config.toml',
            )
        raise IntegrityError(
            f"systemd-creds can't open {self.path}: {reason}",
            next_step="it opens on the machine, and with the TPM2, that sealed it; bring it back from a backup",
        )

    def _finished(self, *arguments: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
        program = shutil.which(self.command[0], path=_PATH)
        if program is None:
            raise UnavailableError(
                f"{self.command[0]} is not installed, so the root key can't be sealed to this machine",
                next_step='install systemd 250 or newer, or set [vault] root_key = "file" in config.toml',
            )
        command = [program, *self.command[1:], *arguments]
        try:
            return subprocess.run(command, input=given, env={}, capture_output=True, check=False, timeout=_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired):
            # Without its cause: a timeout holds the output so far.
            raise UnavailableError(f"{program} does not answer", next_step="run it by hand to see why") from None
