"""A certificate of its own authority for 127.0.0.1 and localhost."""

import contextlib
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.demo.machine import run_tool


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Return the paths of a fresh certificate and its key."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    run_tool(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
        "-keyout", str(key), "-out", str(certificate),
    )  # fmt: skip
    return certificate, key


@contextlib.contextmanager
def believed(certificate: Path) -> Iterator[None]:
    """Have the machine's programs believe a server's certificate, as root does it: a file beside the authorities'."""
    name = run_tool("openssl", "x509", "-noout", "-subject_hash", "-in", str(certificate)).strip()
    places = (Path("/etc/ssl/certs") / f"{name}.{number}" for number in itertools.count())
    place = next(each for each in places if not each.exists())
    shutil.copyfile(certificate, place)
    try:
        yield
    finally:
        place.unlink()
