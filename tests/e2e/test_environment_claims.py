"""Every row of the table of variables runs foreign code in a genuine program, or names why that is not tried here."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_broker.identity.environment import danger
from agent_broker.identity.environment_table import FAMILIES
from tests.demo.agent import find_agent, more_agents
from tests.e2e.environment import claims
from tests.e2e.environment.claims import Claim
from tests.e2e.environment.stage import SAYS, SYSTEM_NODE, build

pytestmark = pytest.mark.e2e

NOBODY = 65534
OTHERS = [*claims.LOADER, *claims.PYTHON, *claims.PERL, *claims.SHELL, *claims.GIT, *claims.JAVA]
ALL = [*OTHERS, *claims.NODE, *claims.NEWER_NODE]
CODEX = "@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = Path(subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True).stdout.strip())
    made.chmod(0o755)
    build(made)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def newer_node() -> str:
    return str(more_agents() / "node_modules/node/bin/node")


@pytest.fixture(scope="module")
def claude(tmp_path_factory: pytest.TempPathFactory) -> str:
    agent = find_agent("real", tmp_path_factory.mktemp("agent"))
    return str(agent.program)


def say(folder: Path, command: list[str], environment: dict[str, str], stdin: str = "", *, as_root: bool = True) -> str:
    """Return all that a command says, with nothing but this in its environment."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        command,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), **environment},
        input=stdin.encode(),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        user=None if as_root else NOBODY,
        start_new_session=True,
        check=False,
    )
    return done.stdout.decode(errors="replace")


def run(claim: Claim, folder: Path, node: str = SYSTEM_NODE) -> None:
    def fill(text: str) -> str:
        return text.format(d=folder, node=node)

    # a command is no template where it holds braces of its own
    command = [word.replace("{d}", str(folder)).replace("{node}", node) for word in claim.command]
    base = {name: fill(value) for name, value in claim.base.items()}
    with_it = {**base, claim.variable: fill(claim.value)}
    shutil.rmtree(folder / "clone", ignore_errors=True)
    assert claim.shows not in say(folder, command, base, claim.stdin, as_root=claim.as_root)
    shutil.rmtree(folder / "clone", ignore_errors=True)
    assert claim.shows in say(folder, command, with_it, claim.stdin, as_root=claim.as_root)
    assert danger(claim.variable, [claim.runtime])


@pytest.mark.parametrize("claim", OTHERS, ids=lambda claim: claim.name)
def test_the_variable_runs_foreign_code(claim: Claim, folder: Path) -> None:
    run(claim, folder)


@pytest.mark.parametrize("claim", claims.NODE, ids=lambda claim: claim.name)
def test_the_variable_runs_foreign_code_in_the_system_s_node(claim: Claim, folder: Path) -> None:
    run(claim, folder)


@pytest.mark.parametrize("claim", [*claims.NODE, *claims.NEWER_NODE], ids=lambda claim: claim.name)
def test_the_variable_runs_foreign_code_in_a_newer_node(claim: Claim, folder: Path, newer_node: str) -> None:
    run(claim, folder, newer_node)


@pytest.mark.parametrize(
    ("variable", "value", "base"),
    [
        ("LD_PRELOAD", "{d}/foreign.so", {}),
        ("LD_AUDIT", "{d}/foreign.so", {}),
        ("BUN_OPTIONS", "--preload={d}/foreign.js", {}),
        ("BUN_INSPECT_PRELOAD", "{d}/foreign.js", {}),
        ("NODE_PATH", "{d}/node", {"BUN_OPTIONS": "--preload={d}/tries-foreign.js"}),
    ],
)
def test_the_variable_runs_foreign_code_in_the_real_claude(variable, value, base, folder: Path, claude: str) -> None:
    runtime = "loader" if variable.startswith("LD_") else "bun"
    run(Claim(runtime, variable, value, (claude, "--version"), base), folder)


@pytest.mark.parametrize("claim", [("NODE_OPTIONS", "--require={d}/foreign.js"), ("BUN_INSTALL", "{d}/node")])
def test_what_the_table_spares_runs_nothing_in_the_real_claude(claim, folder: Path, claude: str) -> None:
    name, value = claim
    assert not danger(name, ["loader", "bun"])
    tries = {"BUN_OPTIONS": f"--preload={folder}/tries-foreign.js"}
    assert SAYS not in say(folder, [claude, "--version"], {**tries, name: value.format(d=folder)})


def test_no_variable_of_the_loader_reaches_the_static_codex(folder: Path) -> None:
    codex = str(more_agents() / "node_modules" / CODEX)
    of_loader = {name: str(folder / "foreign.so") for name in ("LD_PRELOAD", "LD_AUDIT")}
    of_node = {"NODE_OPTIONS": f"--require={folder}/foreign.js", "BUN_OPTIONS": f"--preload={folder}/foreign.js"}
    openssl = {"OPENSSL_CONF": f"{folder}/provider.cnf", "GCONV_PATH": f"{folder}/gconv"}
    said = say(folder, [codex, "--version"], {**of_loader, **of_node, **openssl})
    assert "codex-cli" in said
    assert SAYS not in said


def test_every_pattern_of_the_table_is_claimed_or_says_why_not() -> None:
    tried = {(claim.runtime, claim.variable) for claim in ALL} | {("bun", "BUN_OPTIONS"), ("bun", "NODE_PATH")}
    tried |= {("git-http", variable) for runtime, variable in tried if runtime == "git"}
    open_rows = [
        (family.runtime, pattern)
        for family in FAMILIES
        if family.runtime not in claims.NO_INTERPRETER
        for pattern in family.patterns
        if not any(
            runtime == family.runtime and re.fullmatch(pattern.replace("*", ".*"), name) for runtime, name in tried
        )
        and pattern not in claims.DOCUMENTED
    ]
    assert open_rows in ([], [("java", name) for name in _java_options() if not shutil.which("java")])


def _java_options() -> list[str]:
    return ["JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS"]


def test_the_test_can_fail(folder: Path) -> None:
    with pytest.raises(AssertionError):
        run(Claim("loader", "LD_NOTHING", "{d}/foreign.so", ("/bin/true",)), folder)
    assert os.access(folder / "foreign.so", os.R_OK)
