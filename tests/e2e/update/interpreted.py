"""Gemini CLI, which runs in an interpreter, is updated by the real npm from one published version to the next.

    python -m tests.e2e.update.interpreted

Both versions are downloaded once, into a cache of npm's own. A process of its own: it leaves the machine's network.
"""

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.demo.check import require
from tests.e2e.agents import gemini, npm
from tests.e2e.agents.acts import refuse_turn
from tests.e2e.agents.place import finished, give, place, require_well

PACKAGE = "@google/gemini-cli"
OLD, NEW = "0.60.0", "0.61.0"
LAYOUT = "npm, by npm"
CACHE = Path(os.environ.get("AGENT_BROKER_NPM_CACHE_GEMINI") or "/var/cache/agent-broker-npm-gemini")
ATTEMPTS = 8
"""A new folder is watched when its event is read: of a file that npm made before, nobody was seen to write it."""


def npm_install(version, prefix, cache, *options):
    """Return the command by which a user installs a version; what an install script made would be in no tarball."""
    places = ("--prefix", str(prefix), "--cache", str(cache))
    quiet = ("--no-fund", "--no-audit", "--no-update-notifier", "--ignore-scripts")
    return (shutil.which("npm"), "install", "--global", *places, *quiet, *options, f"{PACKAGE}@{version}")


def fill_cache():
    """Have npm fetch both versions, once."""
    for version in (OLD, NEW):
        done = CACHE / f"has-{version}"
        if not done.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            unpacked = CACHE / f"unpacked-{version}"
            subprocess.run(npm_install(version, unpacked, CACHE), check=True, capture_output=True)
            shutil.rmtree(unpacked)
            done.touch()


def install(world, version):
    """Have its user install a version; return what they type."""
    cache = world.home / ".npm"
    if not cache.exists():
        shutil.copytree(CACHE, cache)
        give(world, cache)
    (world.home / "project").mkdir(exist_ok=True)
    process = world.start_as_user(*npm_install(version, world.home / npm.PREFIX, cache, "--offline"))
    said = finished(process)
    require(process.returncode == 0, f"npm to install {version}", said)
    return world.home / npm.PREFIX / "bin/gemini"


class Published(gemini.Gemini):
    """Gemini CLI as npm installs the older version."""

    version = OLD
    layouts = {LAYOUT: lambda world: install(world, OLD)}  # noqa: RUF012 - as its parent's


CLIENT = Published()


def update_until_recorded(made):
    """Update, be refused, approve; again, back and forth, until the writer was seen. Raises StepFailedError."""
    versions = [OLD, *(NEW, OLD) * (ATTEMPTS // 2)]
    for old, new in itertools.pairwise(versions):
        began_ns = time.time_ns()
        install(made.world, new)
        made.settle()
        _is_refused(made, old)
        whose = ("--user", made.world.user.pw_name)
        told = json.loads(made.broker("approve", CLIENT.name, *whose, "--yes", "--json"))
        made.answers("the next version works")
        require_well(made.turn(CLIENT), CLIENT, made.login.sent)
        _require_versions(made, told["update"], old, new, began_ns)
        _require_evidence(told["update"]["vendor"], new)
        if _writer_is_told(made, told["update"]["provenance"]):
            return
    require(False, "the monitor to have seen who writes", told["update"]["provenance"])


def _is_refused(made, old):
    """Require that the agent says to its user why it is not served, and what to do."""
    refused = refuse_turn(made, CLIENT)
    require(refused.told == "refused, alert agent-updated, credential-opened", "it to be refused", refused)
    said = " ".join(refused.said.split())
    for words in ("gemini at ", f" is not what was enrolled ({old})", "sudo agent-broker approve gemini"):
        require(words in said, f"it to say {words!r}", said[-2000:])


def _require_versions(made, told, old, new, began_ns):
    """Require that both are shown, and that the new one is what is there."""
    script, before, after = made.program.resolve(), told["old"]["binary"]["script"], told["new"]["binary"]["script"]
    require((told["old"]["version"], told["new"]["version"]) == (old, new), "both versions", told)
    require(before["path"] == after["path"] == str(script), f"{script} in both", (before, after))
    require(after["sha256"] == hashlib.sha256(script.read_bytes()).hexdigest(), "the new script's hash", after)
    digests = [each["bundle"]["digest"] for each in (before, after)]
    require(digests[0] != digests[1], "two digests of the package", digests)
    node = Path(told["new"]["binary"]["path"])
    require(told["new"]["binary"]["size_bytes"] == node.stat().st_size, "the interpreter's size", told["new"])
    changed_ns = told["new"]["changed_ns"]
    require(began_ns < changed_ns < time.time_ns(), "when the new version was written", changed_ns)


def _require_evidence(vendor, version):
    """Require that every file is as in the tarballs that npm noted."""
    require((vendor["evidence"], version in vendor["what"]) == ("agrees", True), "npm's files to agree", vendor)
    compared = vendor["comparison"]
    whole = compared["files"] == compared["same"] + compared["made_by_npm"]
    require(whole and compared["same"] > 0, "every file of the package to be compared", compared)
    require(compared["deviations"] == [] and not compared["contradicted"], "none to differ", compared)


def _writer_is_told(made, told):
    """Return whether the writer was seen; require the user's npm to be told, or what is missing to be said."""
    for writer in told["writers"]:
        require((writer["agent"], writer["package_manager"]) == (None, ""), "a program of no agent, nor root's", writer)
        require(writer["uid"] in {made.world.user.pw_uid, None}, "the user's", writer)
        require(writer["program"] or writer["problem"], "a program, or why it is not known", writer)
    require(told["complete"] or told["remark"], "what was not seen to be said", told)
    return [writer for writer in told["writers"] if Path(writer["program"]).name == "node" and writer["lineage"]]


if __name__ == "__main__":
    fill_cache()
    with place() as made_place:
        made_place.install(CLIENT, LAYOUT)
        made_place.log_in(CLIENT.ways[gemini.API_KEY]())
        try:
            made_place.enroll(CLIENT)
            made_place.answers()
            require_well(made_place.turn(CLIENT), CLIENT, made_place.login.sent)
            update_until_recorded(made_place)
        finally:
            made_place.forget(CLIENT)
