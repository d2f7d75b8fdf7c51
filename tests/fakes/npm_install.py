"""npm without npm: packages that are published, cached as npm caches them, and installed as it installs them."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

from agent_broker.enroll.owner import Owner
from agent_broker.enroll.program import find_program
from agent_broker.identity.registry import EnrolledBinary

REGISTRY = "https://registry.test/"
_KEY = "make-fetch-happen:request-cache:"
Files = Mapping[str, bytes]


def tarball(files: Files, *, folder: str = "package/", more: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    """Return a package's tarball; ``more``: members without content, as an attacker would add."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for path, data in files.items():
            entry = tarfile.TarInfo(folder + path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for each in more:
            archive.addfile(each)
    return packed.getvalue()


def integrity(content: bytes) -> str:
    """Return it as npm writes it."""
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


class Npm:
    """One machine's npm: its cache, and a folder of global packages."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / ".npm/_cacache"
        self.modules = folder / "lib/node_modules"
        self._versions: dict[str, dict[str, object]] = {}

    def publish(self, name: str, version: str, files: Files, **manifest: object) -> bytes:
        """Have the registry tell npm of a version, and npm fetch it; return the tarball."""
        packed = tarball(whole(name, version, files, **manifest))
        self.keep(packed)
        self.tell(name, version, integrity(packed))
        return packed

    def tell(self, name: str, version: str, noted: str) -> None:
        """Have the registry say this of a version, and npm keep what it said."""
        self._versions.setdefault(name, {})[version] = {"dist": {"integrity": noted}}
        document = json.dumps({"name": name, "versions": self._versions[name]}).encode()
        self.keep(document)
        self._index(_KEY + REGISTRY + name.replace("/", "%2f"), integrity(document))

    def keep(self, content: bytes) -> Path:
        """Put content into the cache under its hash."""
        digest = hashlib.sha512(content).hexdigest()
        place = self.cache / "content-v2/sha512" / digest[:2] / digest[2:4] / digest[4:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return place

    def install(self, name: str, version: str, files: Files, *, inside: str = "", **manifest: object) -> Path:
        """Unpack a version globally, or into a package's own ``node_modules``; return its folder."""
        modules = self.modules / inside / "node_modules" if inside else self.modules
        for path, data in whole(name, version, files, **manifest).items():
            place = modules / name / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            place.chmod(0o755)
        return modules / name

    def _index(self, key: str, noted: str) -> None:
        digest = hashlib.sha256(key.encode()).hexdigest()
        bucket = self.cache / "index-v5" / digest[:2] / digest[2:4] / digest[4:]
        bucket.parent.mkdir(parents=True, exist_ok=True)
        entry = json.dumps({"key": key, "integrity": noted, "time": 1, "size": 1})
        with bucket.open("a") as file:
            file.write(f"\n{hashlib.sha1(entry.encode(), usedforsecurity=False).hexdigest()}\t{entry}")


def whole(name: str, version: str, files: Files, **manifest: object) -> dict[str, bytes]:
    """Return a package's files with its package.json."""
    return {"package.json": json.dumps({"name": name, "version": version, **manifest}).encode(), **files}


def enrolled(script: Path, path: Path) -> EnrolledBinary:
    """Return what enrolling a script would write down; ``path`` holds the interpreter."""
    return find_program(script, Owner(0, 0, (), "root", "/root"), [path]).found.enrolled
