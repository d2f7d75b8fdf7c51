"""What the vendor's files beside an executable say; npm's own formats, made as npm makes them."""

import base64
import gzip
import hashlib
import io
import json
import os
import tarfile

import pytest

from agent_broker.enroll.vendor import AGREES, DISAGREES, NONE, vendor_of, version_of

CONTENT = b"\x7fELF the platform's binary"


class Installed:
    """claude-code with its platform package, whose binary is linked into it."""

    def __init__(self, folder):
        self.modules = folder / "node_modules"
        self.cache = folder / "cache"
        self.package = self.make_package("claude-code", {"bin/claude.exe": b""})
        self.platform = self.make_package("claude-code-linux-x64", {"claude": CONTENT})
        self.program = self.package / "bin/claude.exe"
        self.program.unlink()
        os.link(self.platform / "claude", self.program)
        self.lock = {"packages": {}}
        self.note("claude-code-linux-x64", {"claude": CONTENT})

    def make_package(self, name, files):
        root = self.modules / "@anthropic-ai" / name
        for path, data in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        about = {"name": f"@anthropic-ai/{name}", "version": "2.1.330"}
        (root / "package.json").write_text(json.dumps(about))
        return root

    def note(self, name, files):
        """Write the integrity of a tarball with these files down, and put it into the cache."""
        packed = io.BytesIO()
        with (
            gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w") as archive,
        ):
            for path, data in files.items():
                entry = tarfile.TarInfo(f"package/{path}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        digest = hashlib.sha512(packed.getvalue()).digest()
        noted = "sha512-" + base64.b64encode(digest).decode()
        self.lock["packages"][f"node_modules/@anthropic-ai/{name}"] = {"version": "2.1.330", "integrity": noted}
        (self.modules / ".package-lock.json").write_text(json.dumps(self.lock))
        text = digest.hex()
        self.tarball = self.cache / "content-v2/sha512" / text[:2] / text[2:4] / text[4:]
        self.tarball.parent.mkdir(parents=True, exist_ok=True)
        self.tarball.write_bytes(packed.getvalue())

    def vendor(self, content=CONTENT):
        return vendor_of(self.program, hashlib.sha256(content).hexdigest(), (self.cache,))


@pytest.fixture
def installed(tmp_path):
    return Installed(tmp_path)


def test_the_file_of_the_tarball_that_npm_noted_agrees(installed):
    found = installed.vendor()

    assert (found.version, found.evidence) == ("2.1.330", AGREES)
    assert "claude-code-linux-x64 2.1.330" in found.what


def test_other_bytes_than_those_in_the_tarball_disagree(installed):
    assert installed.vendor(b"other").evidence == DISAGREES


def test_a_tarball_that_is_not_the_noted_one_disagrees(installed):
    installed.tarball.write_bytes(installed.tarball.read_bytes() + b"x")

    assert installed.vendor().evidence == DISAGREES


def test_without_the_tarball_there_is_no_evidence(installed):
    installed.tarball.unlink()

    found = installed.vendor()
    assert (found.evidence, found.version) == (NONE, "2.1.330")
    assert found.what.startswith("no evidence")


def test_without_a_lock_file_there_is_no_evidence(installed):
    (installed.modules / ".package-lock.json").unlink()

    assert installed.vendor().evidence == NONE


@pytest.mark.parametrize("text", ["", "[]", "{", '{"packages": 5}', '{"packages": {"x": 1}}', "[" * 100_000])
def test_a_lock_file_that_is_none_is_no_evidence(installed, text):
    (installed.modules / ".package-lock.json").write_text(text)

    assert installed.vendor().evidence == NONE


@pytest.mark.parametrize("damage", [b"", b"\x1f\x8b damaged"])
def test_a_tarball_that_is_none_is_told(installed, damage):
    digest = hashlib.sha512(damage).digest()
    entry = installed.lock["packages"]["node_modules/@anthropic-ai/claude-code-linux-x64"]
    entry["integrity"] = "sha512-" + base64.b64encode(digest).decode()
    (installed.modules / ".package-lock.json").write_text(json.dumps(installed.lock))
    text = digest.hex()
    place = installed.cache / "content-v2/sha512" / text[:2] / text[2:4] / text[4:]
    place.parent.mkdir(parents=True)
    place.write_bytes(damage)

    assert installed.vendor().evidence in {NONE, DISAGREES}


def test_a_link_in_the_place_of_a_document_is_not_followed(installed, tmp_path):
    lock = installed.modules / ".package-lock.json"
    lock.rename(tmp_path / "elsewhere.json")
    lock.symlink_to(tmp_path / "elsewhere.json")

    assert installed.vendor().evidence == NONE


def test_the_native_installer_names_the_file_after_its_version(tmp_path):
    program = tmp_path / "versions/2.1.331"
    program.parent.mkdir()
    program.write_bytes(CONTENT)

    found = vendor_of(program, "0" * 64, ())
    assert (found.version, found.evidence) == ("2.1.331", NONE)


@pytest.mark.parametrize("name", ["claude", "latest", "2", "1.2\x1b[31m", "1." + "1" * 100])
def test_what_is_no_version_is_none(tmp_path, name):
    program = tmp_path / "versions" / name
    program.parent.mkdir()
    program.write_bytes(CONTENT)

    assert not version_of(program)
