"""Which modules a Node package asks for and does not hold."""

import json

import pytest

from agent_broker.identity.tree import Bounds, scan_tree
from agent_broker.identity.wanted import lookup_folders, places_of, wanted_modules


def wanted(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_js", ".js").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return wanted_modules(scan_tree(str(folder), Bounds()), lambda path: (folder / path.decode()).read_bytes())


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ('require("a")', ("a",)),
        ("await import('a/part.js')", ("a",)),
        ('import x from "a"; export * from "b"', ("a", "b")),
        ('import "a"', ("a",)),
        ("__require(`a`)", ("a",)),
        ('const moduleName = "@github/keytar"; import(moduleName)', ("@github/keytar",)),
        ('require("./a"); import("../b"); require("/c"); import("node:fs"); import("#own")', ()),
        ('require("fs"); require("fs/promises"); require("punycode")', ()),
        ('say("hello there")', ()),
        ('reimport("a"); xfrom "b"; reimport "c"', ()),
        ('import("a");import"b";export*from"c"', ("a", "b", "c")),
        ('mail("me@x/y"); say(`@x/y`)', ("@x/y",)),
    ],
)
def test_what_code_asks_for_by_a_literal(tmp_path, code, names):
    assert wanted(tmp_path, main_js=code) == names


def test_what_a_manifest_depends_on(tmp_path):
    manifest = {"dependencies": {"a": "1"}, "optionalDependencies": {"b": "1"}, "devDependencies": {"c": "1"}}

    assert wanted(tmp_path, package_json=json.dumps(manifest)) == ("a", "b")
    assert wanted(tmp_path, package_json='["dependencies"]', other__package_json="{") == ()


def test_what_the_package_holds_is_not_looked_for_outside(tmp_path):
    held = {"node_modules__a__package_json": "{}", "node_modules__b_js": ""}

    assert wanted(tmp_path, sub__main_js='require("a"); require("b"); require("c")', **held) == ("c",)


def test_what_only_another_module_of_the_package_holds_is_looked_for_outside(tmp_path):
    nested = {"node_modules__a__node_modules__b__package_json": "{}", "node_modules__a__main_js": 'require("b")'}

    assert wanted(tmp_path, main_js='require("a")', **nested) == ()
    assert wanted(tmp_path, main_js='require("b")', **nested) == ("b",)


def test_a_folder_that_is_named_as_code_is_none(tmp_path):
    held = {"node_modules__highlight_js__package_json": "{}", "node_modules__highlight_js__main_js": 'require("b")'}

    assert wanted(tmp_path, main_js='require("highlight.js")', **held) == ("b",)


def test_where_node_looks():
    folders = lookup_folders("/home/u/lib/node_modules/@s/cli", "/home/u", "/opt/node/bin/node")

    assert folders == (
        "/home/u/lib/node_modules/@s/node_modules",
        "/home/u/lib/node_modules",
        "/home/u/node_modules",
        "/home/node_modules",
        "/node_modules",
        "/home/u/.node_modules",
        "/home/u/.node_libraries",
        "/opt/node/lib/node",
    )
    assert list(places_of(("/f",), ("a",))) == ["/f/a", "/f/a.js", "/f/a.json", "/f/a.node"]
