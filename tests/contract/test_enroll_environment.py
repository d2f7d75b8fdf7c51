"""Variables that would taint the agent: allowed by the operator, or named before they are refused (needs root)."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from agent_broker.cli.main import main
from agent_broker.enroll.plan import make_plan
from agent_broker.enroll.session import session_exports
from agent_broker.errors import MisuseError
from agent_broker.identity.environment import injected, scan_strings
from agent_broker.identity.registry import load_registry
from tests.fakes.control import FakeBroker, ServedBroker
from tests.fakes.enroll_world import UID, EnrollWorld

VALUE = "/opt/cuda/lib64:/a value of the operator's"
SESSION = """
import os, sys
reading, writing = os.pipe()
child = os.fork()
if not child:
    os.read(reading, 1)  # the parent is the owner's by now: what sudo is to a shell, without sudo
    os.execvp(sys.argv[1], sys.argv[1:])
os.setresuid({uid}, {uid}, {uid})
os.write(writing, b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture
def world() -> Iterator[EnrollWorld]:
    made = EnrollWorld().full()
    yield made
    made.close()


@pytest.fixture
def served(world: EnrollWorld, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedBroker]:
    monkeypatch.setenv("AGENT_BROKER_ROOT", str(world.root / "r"))
    monkeypatch.setenv("COLUMNS", "200")
    with ServedBroker(FakeBroker(), world.root / "r") as broker:
        yield broker


def command(world: EnrollWorld, *options: str) -> list[str]:
    whose = ["--user", str(UID), "--home", str(world.home)]
    return ["enroll", "claude", *whose, "--binary", str(world.binary), *options]


def plan(world: EnrollWorld, *allow_env: str):
    return make_plan(
        world.recipe,
        world.owner,
        registry_dir=world.site().registry_dir,
        binaries=(world.binary,),
        allow_env=allow_env,
    )


def test_an_allowance_is_shown_and_its_value_is_stored_as_a_digest_only(
    served: ServedBroker, world: EnrollWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(world, "--yes", "--allow-env", f"LD_LIBRARY_PATH={VALUE}", "--allow-env", "BUN_OPTIONS=")) == 0
    said = capsys.readouterr().out
    assert f"  allowed  LD_LIBRARY_PATH={VALUE} (the dynamic loader loads or redirects libraries" in said
    assert "BUN_OPTIONS= (the Bun runtime" in said

    (enrollment,) = load_registry(served.layout.registry_folder)
    kept = {each.name: each.value_sha256 for each in enrollment.allowed_environment}
    assert kept == {
        "LD_LIBRARY_PATH": hashlib.sha256(VALUE.encode()).hexdigest(),
        "BUN_OPTIONS": hashlib.sha256(b"").hexdigest(),
    }
    files = [path for path in (world.root / "r").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if VALUE.encode() in path.read_bytes()]

    exactly = scan_strings(b"", f"LD_LIBRARY_PATH={VALUE}\0BUN_OPTIONS=\0".encode())
    other = scan_strings(b"", f"LD_LIBRARY_PATH={VALUE}:/evil\0".encode())
    assert injected(exactly, enrollment.role.runtimes, enrollment.allowed_environment) == ()
    assert injected(other, enrollment.role.runtimes, enrollment.allowed_environment)


def test_json_shows_allowances_and_changes_nothing(
    served: ServedBroker, world: EnrollWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    before = world.snapshot()
    assert main(command(world, "--dry-run", "--json", "--allow-env", f"LD_PRELOAD={VALUE}\udcff")) == 0
    (shown,) = json.loads(capsys.readouterr().out)["plan"]["allowed_environment"]
    assert shown["name"] == "LD_PRELOAD"
    assert shown["value"].startswith(VALUE)
    assert "loader" in shown["why"]
    assert world.snapshot() == before


def test_the_same_allowance_twice_is_one_and_two_values_are_two(world: EnrollWorld) -> None:
    assert len(plan(world, "LD_PRELOAD=a", "LD_PRELOAD=b", "LD_PRELOAD=a").allowed) == 2


@pytest.mark.parametrize("word", ["HOME=/h", "PYTHONPATH=/x", "NODE_OPTIONS=", "BUN_INSTALL=/x", "=x", "LD=x"])
def test_what_loads_nothing_into_the_agent_needs_no_allowance(world: EnrollWorld, word: str) -> None:
    with pytest.raises(MisuseError, match="needs no allowance"):
        plan(world, word)


@pytest.mark.parametrize("word", ["LD_PRELOAD", "HOME", ""])
def test_an_allowance_without_a_value_is_misuse_that_says_why(
    served: ServedBroker, world: EnrollWorld, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MisuseError, match="with any value allowed, anybody") as caught:
        plan(world, word)
    assert f"--allow-env {word}=VALUE" in caught.value.next_step
    assert main(command(world, "--dry-run", "--allow-env", word)) == 2


def test_profiles_that_set_a_variable_are_named_by_line_and_by_what_to_do(world: EnrollWorld) -> None:
    world.make(world.home / ".profile", "# mine\nexport LD_PRELOAD=/secret-place.so\nexport PYTHONPATH=/x\n")
    (world.home / ".config/environment.d").mkdir(parents=True)
    world.make(world.home / ".config/environment.d/10-cuda.conf", "LD_LIBRARY_PATH=/opt/cuda\n")

    warnings = [each for each in plan(world).warnings if "the broker refuses" in each]
    assert [each.partition(" is set")[0] for each in warnings] == [
        f"{world.home}/.profile:2: LD_PRELOAD",
        f"{world.home}/.config/environment.d/10-cuda.conf:1: LD_LIBRARY_PATH",
    ]
    assert all("remove it, or add --allow-env" in each for each in warnings)
    assert "secret-place" not in repr(warnings)
    assert not [each for each in plan(world, "LD_PRELOAD=/secret-place.so").warnings if "LD_PRELOAD" in each]


def in_session(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as root below a process of the owner's that has these variables."""
    return subprocess.run(
        [sys.executable, "-c", SESSION.format(uid=UID), *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("allowed", "says"),
    [
        ([], "LD_DEBUG_OF_THE_SESSION is set, and the broker refuses claude with it"),
        (["--allow-env", "LD_DEBUG_OF_THE_SESSION=secret-place"], ""),
        (["--allow-env", "LD_DEBUG_OF_THE_SESSION=other"], "has another value than the allowed one"),
    ],
)
def test_the_session_s_own_variables_are_named(
    served: ServedBroker, world: EnrollWorld, allowed: list[str], says: str
) -> None:
    program = "import sys; from agent_broker.cli.main import main; sys.exit(main(sys.argv[1:]))"
    clean = ["env", "-u", "LD_DEBUG_OF_THE_SESSION"]  # as sudo does
    words = [*clean, sys.executable, "-c", program, *command(world, "--dry-run", "--json", *allowed)]
    done = in_session(words, LD_DEBUG_OF_THE_SESSION="secret-place", GTK_MODULES="x")
    assert done.returncode == 0, done.stderr
    found = [each for each in json.loads(done.stdout)["plan"]["warnings"] if "this session (" in each]
    assert [says in each for each in found] == ([True] if says else [])
    assert "secret-place" not in repr(found)


def test_a_session_of_somebody_else_is_not_looked_at() -> None:
    assert list(session_exports(UID)) == []


def test_a_process_that_is_gone_says_nothing() -> None:
    with subprocess.Popen(["true"]) as gone:
        pid = gone.pid
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
    assert list(session_exports(UID, pid)) == []
