"""What is the backend bcc's own: its compiler's process, its self-check, and the taints that it sees.

What holds for both backends is in test_sensor, test_lineage_torture and test_lost_events_real.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from agent_broker.errors import UnavailableError
from agent_broker.kernel.bcc import compiler, fields, programs
from agent_broker.kernel.bcc.programs import SOURCES, BccPrograms
from agent_broker.kernel.bcc.sensor import BccSensor
from agent_broker.kernel.libbpf import Libbpf
from agent_broker.kernel.pins import BPFFS, release
from agent_broker.kernel.sensor import CoreSensor
from agent_broker.kernel.wire import TAINT_TRACED, TAINT_WRITTEN
from agent_broker.lineage.store import Store
from agent_broker.monitor.kernel_side import Backend, load_sensor
from tests.fakes.tampering import World

pytestmark = pytest.mark.kernel

RING_BYTES = 1 << 20


@pytest.fixture
async def world():
    made = World("bcc")
    try:
        assert await made.enroll() == ()
        yield made
    finally:
        made.close()


@pytest.mark.parametrize(
    ("how", "taint"), [("attach", TAINT_TRACED), ("vm-write", TAINT_WRITTEN), ("mem-write", TAINT_WRITTEN)]
)
async def test_who_takes_hold_of_an_agent_taints_it_and_is_named(world, how, taint):
    victim = world.start()
    before = await world.attest(victim.pid)
    assert before.taints == ()

    said, pid = world.tamper(how, victim)

    assert said == "done"
    assert world.taints(victim) == (taint, taint)
    assert {event.actor_pid for event in world.told()} == {pid}


def shifted(name):
    """The offsets of this kernel, one of them of a field that it is not."""

    def defines(offset_of):
        return tuple(
            f"{each.partition('=')[0]}={int(each.partition('=')[2]) + 4}"
            if each.startswith(f"-DOFFSET_{name}=")
            else each
            for each in fields.defines(offset_of)
        )

    return defines


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("task_struct__start_boottime", "the start time is another one"),
        ("inode__i_ino", "the executable file is another one"),
        ("inode__i_size", "the executable file is another one"),
        ("cred__uid", "the user, the name or the arguments are other ones"),
        ("mm_struct__arg_start", "the user, the name or the arguments are other ones"),
    ],
)
def test_a_field_that_is_read_at_a_wrong_place_refuses_the_backend(monkeypatch, field, said):
    monkeypatch.setattr(programs, "defines", shifted(field))
    with pytest.raises(UnavailableError, match=said):
        BccSensor(lambda _: None, ring_bytes=RING_BYTES)


def test_a_refused_backend_leaves_nothing_attached(monkeypatch):
    monkeypatch.setattr(programs, "defines", shifted("inode__i_ino"))
    before = raw_tracepoints()
    with pytest.raises(UnavailableError):
        BccSensor(lambda _: None, ring_bytes=RING_BYTES)
    assert raw_tracepoints() == before


def raw_tracepoints():
    """How many links of raw tracepoints this process holds."""
    links = [file.read_text() for file in Path("/proc/self/fdinfo").iterdir() if file.exists()]
    return sum("raw_tracepoint" in each for each in links)


def test_the_compilers_own_words_are_in_the_refusal(tmp_path):
    sources = shutil.copytree(SOURCES, tmp_path / "bcc")
    (sources / "holds.h").write_text("int on_sched_switch(struct bpf_raw_tracepoint_args *ctx) { return nowhere; }\n")
    with pytest.raises(UnavailableError, match=r"the backend bcc can't be had: .*Failed to compile"):
        BccPrograms(ring_bytes=RING_BYTES, sources=sources)


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    without = tmp_path / "compiling.py"
    text = compiler.COMPILING.read_text()
    without.write_text(text.replace("/usr/lib/python3", str(tmp_path)))
    monkeypatch.setattr(compiler, "COMPILING", without)
    with pytest.raises(UnavailableError, match="apt-get install python3-bpfcc"):
        BccPrograms(ring_bytes=RING_BYTES)


@pytest.mark.parametrize(
    ("mode", "said"), [(0o644, "it is not the package of the distribution"), (0o666, "is not root's alone")]
)
def test_another_module_of_that_name_is_refused(monkeypatch, tmp_path, mode, said):
    place = tmp_path / "dist-packages/bcc"
    place.mkdir(parents=True)
    (place / "__init__.py").write_text("class Blockchain: pass\n")
    (place / "__init__.py").chmod(mode)
    foreign = tmp_path / "compiling.py"
    foreign.write_text(compiler.COMPILING.read_text().replace("/usr/lib/python3", str(tmp_path)))
    monkeypatch.setattr(compiler, "COMPILING", foreign)
    with pytest.raises(UnavailableError, match=said):
        BccPrograms(ring_bytes=RING_BYTES)


def test_the_systems_other_packages_are_out_of_reach():
    script = "import runpy, sys; compiling = runpy.run_path(sys.argv[1]); compiling['the_module'](); import yaml"
    done = subprocess.run(
        [compiler.PYTHON, "-I", "-S", "-c", script, str(compiler.COMPILING)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No module named 'yaml'" in done.stderr


def test_what_core_left_denying_is_told_and_not_run_beside(monkeypatch):
    folder = BPFFS / "agent-broker-test-of-bcc"
    generation = folder / "one"
    generation.mkdir(parents=True)
    core = CoreSensor(lambda _: None)
    try:
        Libbpf().number("bpf_obj_pin", core._programs.maps["registered"], bytes(generation / "guard"))
        sensor, why = load_sensor(Store(str, str), lambda _: None, RING_BYTES, folder, backend=Backend("bcc"))
    finally:
        core.close()
        release(folder)
    assert sensor is None
    assert "--release-pins" in why
