"""What the rpm database says of a path, asked of rpm itself: its format has changed twice, its query language not.

The tool is asked only if root alone can write it. It runs with an empty environment, and a time limit.
"""

import os
import stat
import subprocess
from pathlib import Path

from agent_broker.errors import UnavailableError

_TOOL = Path("/usr/bin/rpm")
_DATABASES = ("usr/lib/sysimage/rpm", "var/lib/rpm")
_LIMIT_S = 10
_FORMAT = "%{NAME}\\t%{EVR}\\t%{FILEDIGESTALGO}\\n[%{FILENAMES}\\t%{FILEDIGESTS}\\n]"
_ALGORITHMS = {"1": "md5", "(none)": "md5", "2": "sha1", "8": "sha256", "9": "sha384", "10": "sha512"}
"""rpm's numbers of digests (rpmcrypto.h, those of OpenPGP); packages older than 4.6 have MD5 and no number."""

Owner = tuple[str, str, str, str]
"""Name, version, algorithm for hashlib (empty: unknown), digest of the file (empty: none)."""


def stamp(root: Path) -> tuple[int, ...]:
    """Return what changes when packages are installed; empty: there is no rpm database."""
    found = []
    for folder in _DATABASES:
        try:
            with os.scandir(root / folder) as entries:
                found += [each.stat().st_mtime_ns for each in entries]
        except OSError:
            continue
    return tuple(sorted(found))


def owner_of(root: Path, path: str) -> Owner | None:
    """Return the package that owns a path; None: none does, or there is no rpm here. Takes some ten milliseconds.

    Raises:
        UnavailableError: rpm did not answer in time, or can't be run.
    """
    if not stamp(root) or not _is_roots(_TOOL):
        return None
    command: list[str | Path] = [_TOOL, "--root", root, "-qf", "--queryformat", _FORMAT, path]
    try:
        done = subprocess.run(command, env={}, capture_output=True, timeout=_LIMIT_S, check=False, cwd="/")
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise UnavailableError(f"rpm could not be asked who owns a file: {error}") from error
    head, *files = os.fsdecode(done.stdout).split("\n")
    fields = head.split("\t")
    if done.returncode or len(fields) != 3:  # noqa: PLR2004 - the fields of _FORMAT's first line
        return None
    digest = next((each.partition("\t")[2] for each in files if each.partition("\t")[0] == path), "")
    return fields[0], fields[1], _ALGORITHMS.get(fields[2], ""), digest


def _is_roots(path: Path) -> bool:
    try:
        facts = path.stat()
    except OSError:
        return False
    return facts.st_uid == 0 and stat.S_ISREG(facts.st_mode) and not facts.st_mode & 0o022
