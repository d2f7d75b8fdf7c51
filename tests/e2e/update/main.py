"""An agent is updated, with both daemons and a provider: refused with what to do, approved by root, at work again.

    python -m tests.e2e.update.main

A process of its own: it leaves the machine's network, and lets nothing disturb its cleaning up.
"""

import json
import subprocess

from tests.demo.agent import SAMPLE
from tests.demo.processes import broker_command, outcome
from tests.demo.run_claude import TURN_S
from tests.demo.world import private_world


def install(world, version, trailer=b""):
    """Do what Claude's own installer does: a file in ``versions``, and the link to it."""
    place = world.home / f".local/share/claude/versions/{version}"
    link = world.home / ".local/bin/claude"
    for folder in (place.parent, link.parent):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["chown", "-R", f"{world.user.pw_uid}:{world.user.pw_gid}", world.home / ".local"], check=True)
    made = world.root / "downloaded"
    made.write_bytes(world.agent.program.resolve().read_bytes() + trailer)
    made.chmod(0o755)
    run_as_user(world, "/bin/cp", str(made), str(place))
    run_as_user(world, "/bin/ln", "-sfn", str(place), str(link))
    return place


def run_as_user(world, *command):
    process = world.start_as_user(*command)
    outcome(process, TURN_S)
    assert process.returncode == 0


def ask(world):
    """Ask the agent something; return what it said, and whether it worked."""
    agent = world.start_agent("say that all is well")
    said, complaint = outcome(agent, TURN_S)
    return agent.returncode == 0, said + complaint


def broker(world, *words):
    return broker_command(world.root, *words)


def update_and_approve(world):
    """Raises AssertionError where it turns out otherwise."""
    install(world, "1.0.0")
    user = world.user.pw_name
    link = world.home / ".local/bin/claude"
    broker(world, "enroll", "claude", "--user", user, "--home", str(world.home), "--binary", str(link), "--yes")
    worked, said = ask(world)
    assert worked, said

    new = install(world, "1.0.1", trailer=b"the next version")
    worked, said = ask(world)
    assert not worked
    (alert,) = [each for each in alerts(world) if each["kind"] == "agent-updated"]
    assert alert["severity"] == "warning"
    assert "is not what was enrolled (1.0.0)" in alert["what"]
    assert alert["next_step"] == "if you updated it: sudo agent-broker approve claude"
    assert json.loads(broker(world, "freeze", "--list", "--json")) == []

    answer = json.loads(broker(world, "approve", "claude", "--user", user, "--yes", "--json"))
    assert answer["warnings"] == []
    assert answer["update"]["new"]["binary"]["path"] == str(new)
    programs = [writer["program"] for writer in answer["update"]["provenance"]["writers"]]
    assert programs == ["/bin/cp"]
    worked, said = ask(world)
    assert worked, said
    (enrolled,) = json.loads(broker(world, "agents", "--json"))
    assert [(each["how"], each["version"]) for each in enrolled["history"]] == [
        ("enroll", "1.0.0"),
        ("approve", "1.0.1"),
    ]
    journal = (world.root / "var/lib/agent-broker/audit/audit.log").read_bytes()
    assert journal.count(b'"approved"') == 2


def alerts(world):
    return [json.loads(line) for line in broker(world, "alerts", "--json").splitlines()]


if __name__ == "__main__":
    with private_world(SAMPLE) as made:
        update_and_approve(made)
