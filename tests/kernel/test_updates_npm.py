"""Real updates by the real npm of a real agent: Codex, of a version whose native program lies in its own package.

Two versions with 35 MB to download each, the smallest native agent on npm; kept in a cache of their own.
"""

import asyncio
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from agent_broker.enroll.codex import CodexRecipe
from agent_broker.enroll.history import first_approvals
from agent_broker.enroll.update import approve, find_update
from agent_broker.enroll.vendor import AGREES, DISAGREES
from agent_broker.identity.registry import EnrolledBinary, Enrollment, RoleRule
from tests.fakes.updating import USER, Updating

pytestmark = pytest.mark.kernel

PACKAGE = "@openai/codex"
OLD, NEW = "0.20.0", "0.21.0"
CACHE = Path(os.environ.get("AGENT_BROKER_NPM_CACHE_UPDATES") or "/var/cache/agent-broker-npm-updates")
ATTEMPTS = 8
"""A new folder is marked when its event is read; a file made before is not wholly recorded, and asked about."""


class NpmUpdating(Updating):
    """Codex, installed globally by npm; ``uid`` runs it."""

    def __init__(self, uid, *ways):
        self.uid = uid
        super().__init__(*ways)

    def enrollment(self):
        home = self.folder / "home"
        self.prefix, self.cache = home / ".npm-global", home / ".npm"
        self.program = self.prefix / f"lib/node_modules/{PACKAGE}/bin/codex-{os.uname().machine}-unknown-linux-musl"
        if not self.prefix.exists():
            fill_cache()
            subprocess.run(["cp", "-r", CACHE, self.cache], check=True)
            subprocess.run(["chown", "-R", str(self.uid), home], check=True)
            self.install(OLD)
        content = self.program.read_bytes()
        binary = EnrolledBinary(str(self.program), hashlib.sha256(content).hexdigest(), len(content))
        history = first_approvals((binary,), 5)
        return Enrollment("codex", USER, "ann", (binary,), RoleRule(("codex",)), (), (), 5, history=history)

    def transaction(self):
        return msgspec.structs.replace(super().transaction(), agent="codex")

    def install(self, version):
        home = str(self.folder / "home")
        environment = {"HOME": home, "PATH": os.environ["PATH"]}
        subprocess.run(
            npm(version, self.prefix, self.cache, "--offline"),
            check=True, capture_output=True, umask=0o022, user=self.uid, group=self.uid, extra_groups=[], cwd=home,
            env=environment,
        )  # fmt: skip

    async def update(self, version):
        """Install while the event loop takes what the kernel tells."""
        await asyncio.to_thread(self.install, version)

    def found(self):
        return find_update(CodexRecipe(), USER, site=self.site(), who_wrote=self.updater.who_wrote)


def npm(version, prefix, cache, *options):
    places = ("--prefix", str(prefix), "--cache", str(cache))
    return [
        shutil.which("npm"),
        "install",
        "--global",
        *places,
        "--no-fund",
        "--no-audit",
        *options,
        f"{PACKAGE}@{version}",
    ]


def fill_cache():
    """Have npm fetch both versions, once."""
    for version in (OLD, NEW):
        done = CACHE / f"has-{version}"
        if not done.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            subprocess.run(npm(version, CACHE / "unpacked", CACHE), check=True, capture_output=True)
            shutil.rmtree(CACHE / "unpacked")
            done.touch()


@pytest.fixture
async def made():
    worlds = []

    async def make(uid, *ways):
        world = NpmUpdating(uid, *ways)
        worlds.append(world)
        assert await world.reload() == ()
        world.updater.start()
        return world

    yield make
    for each in worlds:
        await each.close()


async def test_an_update_by_roots_npm_that_was_seen_whole_is_approved_by_policy_and_any_other_is_asked_about(made):
    world = await made(0, "root-package-manager")
    for version in (NEW, OLD) * ATTEMPTS:
        approved = len(world.enrolled().history)
        await world.update(version)
        await world.judge()
        told = world.who_wrote(world.program)
        if len(world.enrolled().history) > approved:
            break
        assert not told.complete, told

    assert told.complete
    assert {(seen.writer.package_manager, seen.writer.uid) for seen in told.writers} == {("npm", 0)}
    assert (world.enrolled().history[-1].how, world.enrolled().history[-1].version) == ("root-package-manager", version)
    assert world.enrolled().binaries[0].sha256 == hashlib.sha256(world.program.read_bytes()).hexdigest()
    assert [each.action for each in world.incidents] == ["approved"]


async def test_the_same_by_the_users_npm_is_asked_about_with_who_wrote_it_and_that_its_tarball_agrees(made):
    world = await made(USER, "root-package-manager", "own-updater")
    before = world.enrolled()
    await world.update(NEW)
    await world.judge()
    assert world.enrolled() == before

    found = world.found()
    assert (found.old_version, found.vendor.version, found.vendor.evidence) == (OLD, NEW, AGREES)
    assert f"tarball of {PACKAGE} {NEW} that npm noted" in found.vendor.what
    for seen in found.provenance.writers:
        assert (seen.writer.agent, seen.writer.package_manager) == (None, "")
    assert approve(found, world.site()) == ()
    assert [(each.how, each.version) for each in world.enrolled().history] == [("enroll", OLD), ("approve", NEW)]
    assert world.enrolled().binaries[0].sha256 == hashlib.sha256(world.program.read_bytes()).hexdigest()


async def test_one_byte_after_npm_is_not_what_the_tarball_holds(made):
    world = await made(USER)
    await world.update(NEW)
    with world.program.open("ab") as file:
        file.write(b"x")

    assert world.found().vendor.evidence == DISAGREES
