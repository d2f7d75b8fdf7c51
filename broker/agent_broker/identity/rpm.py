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
_FILES = {"rpmdb.sqlite", "Packages.db", "Packages"}  # by backend; files beside them change when somebody only reads
_LIMIT_S = 10
_FORMAT = "%{NAME}\\t%{EVR}\\t%{FILEDIGESTALGO}\\n[%{FILENAMES}\\t%{FILEDIGESTS}\\n]"
_ALGORITHMS = {"1": "md5", "(none)": "md5", "2": "sha1", "8": "sha256", "9": "sha384", "10": "sha512"}
"""rpm's numbers of digests (rpmcrypto.h, those of OpenPGP); packages older than 4.6 have MD5 and no number."""

Owner = tuple[str, str, str, str]
"""Name, version, algorithm for hashlib (empty: unknown), digest of the file (empty: none)."""


def stamp(root: Path) -> tuple[int, ...]:
    """Return what changes when packages are installed; empty: there is no rpm database."""
    return tuple(time_ns for each in _DATABASES for time_ns in stamp_of(root / each))


def stamp_of(folder: Path) -> tuple[int, ...]:
    """Return the change times of one database's files; empty: it is not there."""
    try:
        with os.scandir(folder) as entries:
            return tuple(sorted(each.stat().st_mtime_ns for each in entries if each.name in _FILES))
    except OSError:
        return ()


def owner_of(root: Path, path: str) -> Owner | None:
    """Return the package that owns a path; None: none does, or there is no rpm here. Takes some ten milliseconds.

    Raises:
        UnavailableError: rpm did not answer in time, or can't be run.
    """
    database = next((each for each in _DATABASES if stamp_of(root / each)), None)
    if database is None or not _is_roots(_TOOL):
        return None
    place: list[str | Path] = ["--root", root, "--dbpath", f"/{database}"]  # whatever the macros of this host say
    command = [_TOOL, *place, "-qf", "--queryformat", _FORMAT, path]
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
