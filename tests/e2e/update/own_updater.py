"""The real Claude Code, in its own installer's layout, is updated by itself, by another program, and by its own tool.

    python -m tests.e2e.update.own_updater

The policy approves what the agent's own updater writes. A process of its own: it leaves the machine's network.
"""

import json
import shlex
import shutil
from pathlib import Path

import msgspec

from agent_broker.config.layout import Layout
from agent_broker.monitor.preapproval import _MARGIN_NS, OWN_UPDATER
from agent_broker.monitor.provenance import Trace
from tests.demo.agent import REAL, VERSION
from tests.demo.check import eventually, require
from tests.demo.processes import outcome
from tests.demo.run_claude import TURN_S, finish
from tests.demo.world import private_world, start_monitor, wait_until_healthy
from tests.e2e.agents.place import give
from tests.e2e.update.main import alerts, ask, broker
from tests.e2e.update.releases import HOST, Releases

OWN, COPIED, TOOLS = "2.1.331", "2.1.332", "2.1.333"
PADDING = 15
"""The last byte of e_ident in an ELF file, which nobody reads (elf(5)): so versions differ, and all work."""
BEFORE_S = 1.1 * _MARGIN_NS[OWN_UPDATER] / 1e9
"""A writer that ran for so long before, and goes on until it was judged, is refused for what it is alone."""
PROGRAM = Path(__file__).with_name("programs") / "put_version.py"


class Scene:
    """The user's Claude Code, and the folder in which each version is a file."""

    def __init__(self, world):
        self.world = world
        self.link = world.home / ".local/bin/claude"
        self.versions = world.home / ".local/share/claude/versions"

    def install_first(self):
        """Leave behind what the installer of the first version did."""
        self.versions.mkdir(parents=True)
        shutil.copyfile(self.world.agent.program.resolve(), self.place(VERSION))
        self.place(VERSION).chmod(0o755)
        self.link.unlink()
        self.link.symlink_to(self.place(VERSION))
        give(self.world, self.world.home / ".local")

    def downloaded(self, mark):
        """Return another version of the program, which everybody may read."""
        made = self.world.root / "downloaded"
        shutil.copyfile(self.world.agent.program.resolve(), made)
        with made.open("r+b") as file:
            file.seek(PADDING)
            file.write(bytes([mark]))
        made.chmod(0o755)
        return made

    def place(self, version):
        return self.versions / version

    def by_program(self, source, version):
        """Return the command of another program than the agent that puts a version in the installer's places."""
        program = self.world.shim.parent / PROGRAM.name
        shutil.copy(PROGRAM, program)
        words = (program, source, self.place(version), self.link, BEFORE_S, self.may_end(version))
        return ("/usr/bin/python3", "-I", *map(str, words))

    def may_end(self, version):
        return self.world.loot / f"judged-{version}"

    def history(self):
        (agent,) = json.loads(broker(self.world, "agents", "--json"))
        return [(each["how"], each["version"]) for each in agent["history"]]

    def approved_unasked(self):
        """Return what was told of updates that the policy let pass."""
        return [each for each in alerts(self.world) if each["action"] == "approved"]

    def refused(self):
        """Return what was told of updates that nobody has approved, each with what to do."""
        next_step = "if you updated it: sudo agent-broker approve claude"
        told = [each for each in alerts(self.world) if each["kind"] == "agent-updated"]
        return [each for each in told if (each["severity"], each["next_step"]) == ("warning", next_step)]

    def works(self):
        worked, said = ask(self.world)
        require(worked, "the agent to end well", said)

    def judged(self, version):
        """Return when the monitor judges a version, since nobody has written more of it; its writer ends then."""
        kept = Layout(self.world.root).updates_file

        def is_closed():
            traces = msgspec.msgpack.decode(kept.read_bytes(), type=list[Trace])
            return any("closed" in seen.did for each in traces if each.name == version for seen in each.seen.values())

        eventually(is_closed, f"{kept} to say who wrote {version}", TURN_S)
        self.may_end(version).touch()

    def is_asked_about(self, version, agent):
        """Require a version to get nothing until root, who is shown that Python of this agent wrote it, approves it."""
        before, refusals = self.history(), len(self.refused())
        require(self.link.resolve() == self.place(version), f"the link to lead to {version}", self.link.resolve())
        worked, said = ask(self.world)
        require(not worked, f"{version} to be refused", said)
        require(len(self.refused()) > refusals, f"{version} to be told as an update", alerts(self.world))
        told = json.loads(broker(self.world, "approve", "claude", "--user", self.world.user.pw_name, "--yes", "--json"))
        require(self.history() == [*before, ("approve", version)], f"{version} to be approved by root", self.history())
        self.works()
        self._require_writer(told["update"]["provenance"], agent)

    def _require_writer(self, told, agent):
        """Require that nothing but its not being the agent speaks against the one writer."""
        require(told["recorded"] and told["complete"], "every writer to be known", told)
        (writer,) = told["writers"]
        program = Path(writer["program"]).resolve()
        require(program == Path("/usr/bin/python3").resolve(), "Python to be named", writer)
        require({"created", "wrote", "closed"} <= set(writer["did"]), "all that it did", writer)
        seen = (writer["agent"], writer["is_agent"], writer["problem"])
        require(seen == (agent, False, ""), f"{agent} to be its agent, and it not to be the agent itself", writer)


def update_in_each_way(world):
    """Raises StepFailedError where it turns out otherwise."""
    scene = Scene(world)
    scene.install_first()
    whose = ("--user", world.user.pw_name, "--home", str(world.home))
    broker(world, "enroll", "claude", *whose, "--binary", str(scene.link), "--yes")
    scene.works()

    _by_itself(scene)
    _by_another(scene)
    _by_its_tool(scene)
    require(len(scene.approved_unasked()) == 1, "one version to be approved unasked", scene.approved_unasked())


def _by_itself(scene):
    """The agent's own installer, in the agent's own process, fetches a version and makes the link lead to it."""
    world = scene.world
    authority = world.root / "authority.pem"
    with Releases(scene.downloaded(1)) as releases:
        authority.write_text(releases.authority.pem)
        updating = world.start_as_user(str(scene.link), "install", OWN, **releases.environment(authority))
        said, complained = outcome(updating, TURN_S)
    require(updating.returncode == 0, f"Claude Code to install {OWN}", said + complained)
    require(HOST in releases.asked_hosts, f"{HOST} to be asked", releases.asked_hosts)
    require(scene.link.resolve() == scene.place(OWN), f"the link to lead to {OWN}", scene.link.resolve())

    (told,) = eventually(scene.approved_unasked, f"{OWN} to be approved unasked", TURN_S, lambda: alerts(world))
    require("(own-updater)" in told["what"] and releases.sha256 in told["what"], "the way and the hash", told)
    require(scene.history() == [("enroll", VERSION), ("own-updater", OWN)], "both in the history", scene.history())
    scene.works()


def _by_another(scene):
    """Another program of the same user puts a version there."""
    writing = scene.world.start_as_user(*scene.by_program(scene.downloaded(2), COPIED))
    scene.judged(COPIED)
    finish(writing)
    scene.is_asked_about(COPIED, agent=None)


def _by_its_tool(scene):
    """The agent's Bash tool does the same, at the word of the model."""
    scene.world.provider.answers(tool=shlex.join(scene.by_program(scene.downloaded(3), TOOLS)))
    updating = scene.world.start_agent("update yourself")
    scene.judged(TOOLS)
    finish(updating)
    scene.world.provider.answers()
    scene.is_asked_about(TOOLS, agent="claude")


def _with_policy(world):
    """Have the policy approve the agent's own updates."""
    config = world.root / "etc/agent-broker/config.toml"
    config.write_text(config.read_text() + '\n[updates]\napprove = "own-updater"\n')
    require(world.monitor.stop() == 0, "the monitor to end when told to", "an exit code")
    start_monitor(world)
    wait_until_healthy(world)


if __name__ == "__main__":
    with private_world(REAL) as made:
        _with_policy(made)
        update_in_each_way(made)
