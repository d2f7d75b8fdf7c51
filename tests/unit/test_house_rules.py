"""The habits of CONTRIBUTING.md that a machine can check."""

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def tracked(*patterns):
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


PYTHON = tracked("*.py")
PRODUCT = [path for path in PYTHON if "broker/agent_broker" in str(path)]
SOURCE = [*PYTHON, *tracked("*.c", "*.h")]


def offenders(paths, is_wrong):
    return [str(path.relative_to(ROOT)) for path in paths if is_wrong(path)]


def long_functions(path):
    return [
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno >= MAX_FUNCTION_LINES
    ]


def asserts(path):
    return any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(path.read_text())))


def test_there_is_something_to_check():
    assert len(PRODUCT) > 20


def test_files_are_short():
    assert offenders(SOURCE, lambda path: len(path.read_text().splitlines()) > MAX_FILE_LINES) == []


def test_functions_are_short():
    assert offenders(PYTHON, long_functions) == []


def test_the_product_does_not_assert():
    assert offenders(PRODUCT, asserts) == []


def test_names_say_what_is_inside():
    assert offenders(SOURCE, lambda path: VAGUE_NAMES & set(path.relative_to(ROOT).with_suffix("").parts)) == []


def test_nothing_unfinished_lands():
    others = [path for path in SOURCE if path != Path(__file__)]
    assert offenders(others, lambda path: UNFINISHED.search(path.read_text())) == []
