"""``approve`` of a Python agent: its environment may change where it is, and not become another one."""

import msgspec
import pytest

from agent_broker.clock import SystemClock
from agent_broker.enroll.journal import Transaction, TransactionFolder
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.ports import Site
from agent_broker.enroll.program import find_program
from agent_broker.enroll.update import approve, find_update
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import Enrollment, load_registry, save_enrollment
from agent_broker.ids import AgentName, Uid
from agent_broker.monitor.provenance import not_recorded
from tests.fakes.enroll_world import FakeWatch

USER = Uid(61234)


def make_environment(folder):
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python3").symlink_to("/usr/bin/python3")
    (folder / "pyvenv.cfg").write_text("include-system-site-packages = false\n")
    (folder / "agent.py").write_text("VERSION = 1\n")
    script = folder / "bin/agent"
    script.write_text(f"#!{folder}/bin/python3\nimport agent\n")
    script.chmod(0o755)
    return script


class Stage:
    """One user's Python agent, enrolled; the link that they start it by can lead elsewhere."""

    agent = AgentName("agent")

    def __init__(self, folder):
        self.folder = folder
        self.link = folder / "home/agent"
        self.link.parent.mkdir()
        self.link.symlink_to(make_environment(folder / "old"))
        self.registry, self.journal = folder / "agents", folder / "enroll"
        for each in (self.registry, self.journal):
            each.mkdir(mode=0o700)
        home = str(folder / "home")
        found = find_program(self.link, Owner(USER, USER, (), "ann", home))
        enrollment = Enrollment(self.agent, USER, "ann", (found.found.enrolled,), found.role, (), (), 5)
        save_enrollment(self.registry, enrollment)
        done = Transaction(
            id="0", state="enrolled", agent=self.agent, owner_uid=USER, owner_gid=USER, owner_groups=(),
            owner_name="ann", home=home, started_ns=5, files=(), moved=(),
        )  # fmt: skip
        with TransactionFolder(self.journal) as journal:
            journal.write(done)
        self.site = Site(
            store=None, watch=FakeWatch(), journal_dir=self.journal, registry_dir=self.registry,
            policy_dir=folder / "policy.d", clock=SystemClock(),
        )  # fmt: skip

    def binary_candidates(self, _owner, _search_path):
        return ()

    def update(self, given=None):
        return find_update(self, USER, site=self.site, who_wrote=lambda _fd: not_recorded("a test"), given=given)

    def enrolled(self):
        return load_registry(self.registry)[0]


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def test_a_package_that_was_replaced_in_its_environment_is_approved(stage):
    (stage.folder / "old/agent.py").write_text("VERSION = 2\n")

    before = stage.enrolled()
    assert approve(stage.update(), stage.site) == ()

    (binary,) = stage.enrolled().binaries
    assert binary.script.bundle.digest != before.binaries[0].script.bundle.digest
    assert msgspec.structs.replace(binary, script=None) == msgspec.structs.replace(before.binaries[0], script=None)


@pytest.mark.parametrize("named", [False, True])
def test_another_environment_is_refused_since_its_interpreter_would_never_be_the_agent(stage, named):
    """Python finds its environment by the whole name that it is started by, so that name is enrolled."""
    new = make_environment(stage.folder / "new")
    stage.link.unlink()
    stage.link.symlink_to(new)
    before = stage.enrolled()

    with pytest.raises(MisuseError) as caught:
        stage.update(new if named else None)

    assert f"{new} is started by {new.parent}/python3" in caught.value.message
    assert f"is enrolled with {stage.folder}/old/bin/python3" in caught.value.message
    assert "unenroll agent" in caught.value.next_step
    assert stage.enrolled() == before
