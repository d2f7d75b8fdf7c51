"""What a program is made of: interpreter, script and package."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from agent_broker.enroll.binaries import running_pids
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.program import find_program, find_programs, is_isolated, npm_package
from agent_broker.errors import IntegrityError, MisuseError
from agent_broker.identity.bundle import digest_of, hash_files
from agent_broker.identity.tree import Bounds, scan_tree
from agent_broker.ids import Uid

OWNER = Owner(Uid(61234), 61234, (61234,), "u", "/home/u")


@pytest.fixture
def modules(tmp_path):
    folder = tmp_path / "lib/node_modules"
    package(folder / "@scope/tool", "@scope/tool")
    return folder


@pytest.fixture
def node(tmp_path):
    """A folder of a PATH with something that is called node."""
    folder = tmp_path / "path"
    folder.mkdir()
    shutil.copy("/bin/true", folder / "node")
    return folder


def package(folder, name, **manifest):
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": name, **manifest}))
    (folder / "dist/cli.js").write_text("#!/usr/bin/env node\n")
    return folder


def script(path, first_line, text=""):
    path.write_text(f"{first_line}\n{text}")
    path.chmod(0o755)
    return path


def test_a_native_executable_is_what_it_was():
    found = find_program(Path("/bin/true"), OWNER)

    assert found.found.enrolled.script is None
    assert found.role is None


def test_a_script_of_an_npm_package_is_its_interpreter_itself_and_its_package(modules, node, tmp_path):
    link = tmp_path / "tool"
    link.symlink_to(modules / "@scope/tool/dist/cli.js")
    seen = []

    program = find_program(link, OWNER, (tmp_path, node), lambda *told: seen.append(told))

    enrolled, root = program.found.enrolled, str(modules / "@scope/tool")
    assert enrolled.path == str(node / "node")
    assert enrolled.script.path == str(modules / "@scope/tool/dist/cli.js")
    assert (enrolled.script.bundle.root, enrolled.script.bundle.files) == (root, 2)
    tree = scan_tree(root, Bounds())
    assert enrolled.script.bundle.digest == digest_of(tree, hash_files(root, tree, {}))
    assert program.role.argv0_names == ("node",)
    assert {path for path, _, _ in seen} == {enrolled.path, root}


def test_what_npm_put_beside_a_package_is_part_of_it(modules):
    folder = package(modules / "other", "other", optionalDependencies={"@scope/tool": "1", "not-installed": "1"})

    assert npm_package(folder / "dist/cli.js") == str(modules)
    package(folder / "node_modules/@scope/tool", "@scope/tool")
    assert npm_package(folder / "dist/cli.js") == str(folder)


def test_a_manifest_inside_a_package_is_not_its_own(modules):
    (modules / "@scope/tool/dist/package.json").write_text('{"type": "module", "name": "something"}')

    assert npm_package(modules / "@scope/tool/dist/cli.js") == str(modules / "@scope/tool")


@pytest.mark.parametrize("name", ["package.json", "pyvenv.cfg"])
@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: Path(path).symlink_to(f"{path}.elsewhere")], ids=["FIFO", "link"]
)
def test_what_a_user_puts_in_the_place_of_a_settings_file_is_not_opened(tmp_path, name, make):
    """Root reads it: it does not wait at a FIFO, and goes where no link leads."""
    environment = tmp_path / "venv"
    (environment / "bin").mkdir(parents=True)
    (environment / f"{name}.elsewhere").write_text('{"name": "venv", "is": "include-system-site-packages = false"}')
    make(environment / name)

    assert not is_isolated(environment / "bin/python")
    with pytest.raises(MisuseError, match="no npm package"):
        npm_package(environment / "cli.js")


def test_a_script_outside_of_any_package_is_refused(tmp_path, node):
    with pytest.raises(MisuseError, match="no npm package"):
        find_program(script(tmp_path / "x", "#!/usr/bin/env node"), OWNER, (node,))


@pytest.mark.parametrize(
    "line",
    [
        "#!/usr/bin/env -i node", "#!/usr/bin/env NODE_OPTIONS=x node", "#!/usr/bin/env -S A=b node", "#!/usr/bin/env",
        "#!node", "#!/usr/bin/env missing-program", "#!/usr/bin/make -f",
    ],
)  # fmt: skip
def test_a_first_line_that_is_not_understood_is_refused(tmp_path, node, line):
    with pytest.raises(MisuseError):
        find_program(script(tmp_path / "x", line), OWNER, (node,))


def test_env_with_split_options_is_understood(modules, node):
    script(modules / "@scope/tool/dist/cli.js", "#!/usr/bin/env -S node --no-warnings")

    assert find_program(modules / "@scope/tool/dist/cli.js", OWNER, (node,)).found.enrolled.script is not None


def owner_at(home):
    return Owner(Uid(61234), 61234, (61234,), "u", str(home))


def test_a_python_script_must_keep_the_users_own_modules_out(tmp_path):
    python = Path("/usr/bin/python3")
    plain = script(tmp_path / "plain", f"#!{python}")
    isolated = script(tmp_path / "isolated", f"#!{python} -I")
    (tmp_path / ".local/lib" / python.resolve().name / "site-packages").mkdir(parents=True)

    with pytest.raises(MisuseError, match="user's site-packages") as caught:
        find_program(plain, owner_at(tmp_path))
    found = find_program(isolated, owner_at(tmp_path))

    assert f"#!{python} -I" in caught.value.next_step
    assert found.found.enrolled.script.bundle.root == str(isolated)
    assert found.role.argv0_names == (str(python),)
    assert found.role.required_options != ()
    assert found.found.enrolled.script.bundle.outside is None


def test_where_the_user_has_no_modules_there_may_be_none_while_it_is_enrolled(tmp_path):
    plain = script(tmp_path / "plain", "#!/usr/bin/python3")
    folder = tmp_path / ".local/lib" / Path("/usr/bin/python3").resolve().name

    found = find_program(plain, owner_at(tmp_path))

    outside = found.found.enrolled.script.bundle.outside
    assert (outside.modules, outside.folders, outside.home) == (("site-packages",), (str(folder),), str(tmp_path))
    assert found.role.required_options == ()


def test_a_python_script_must_name_its_interpreter_in_full(tmp_path):
    """Python finds its libraries by the path that it was called by, and env leaves that to the caller's PATH."""
    with pytest.raises(MisuseError, match="lets the PATH decide"):
        find_program(script(tmp_path / "x", "#!/usr/bin/env -S python3 -I"), OWNER, (Path("/usr/bin"),))


def test_the_package_of_a_virtual_environments_script_is_the_environment(tmp_path):
    environment = tmp_path / "venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "pyvenv.cfg").write_text("include-system-site-packages = false\n")
    (environment / "bin/python").symlink_to("/usr/bin/python3")
    tool = script(environment / "bin/tool", f"#!{environment}/bin/python")

    program = find_program(tool, OWNER)

    assert program.found.enrolled.script.bundle.root == str(environment)
    assert program.role.argv0_names == (f"{environment}/bin/python",)
    assert program.role.required_options == ()


def test_a_shell_script_is_its_own_package(tmp_path):
    found = find_program(script(tmp_path / "x", "#!/bin/sh"), OWNER)

    assert found.found.enrolled.script.bundle.root == str(tmp_path / "x")
    assert found.role.runtimes == ("loader", "shell")


def test_a_script_that_somebody_has_open_for_writing_is_refused(tmp_path):
    path = script(tmp_path / "x", "#!/bin/sh")

    with path.open("r+"), pytest.raises(IntegrityError, match="open for writing"):
        find_program(path, OWNER)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_module_above_the_package_that_the_user_can_change_is_named(modules, node):
    (modules / "@scope/tool/dist/cli.js").write_text('#!/usr/bin/env node\nimport("there"); require("lacking/part");')
    package(modules / "there", "there")
    os.chown(modules, OWNER.uid, OWNER.gid)

    program = find_program(modules / "@scope/tool/dist/cli.js", OWNER, (node,))

    assert program.found.writable_by_owner
    assert [str(modules / "there") in warning for warning in program.warnings] == [True]
    assert program.found.enrolled.script.bundle.outside.modules == ("lacking",)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_an_interpreter_whose_library_the_user_can_replace_is_refused(tmp_path):
    shutil.copy(os.path.realpath("/usr/bin/python3"), tmp_path / "python3")
    os.chown(tmp_path / "python3", OWNER.uid, OWNER.gid)

    with pytest.raises(MisuseError, match="library"):
        find_program(script(tmp_path / "x", f"#!{tmp_path}/python3 -I"), OWNER)


def test_an_agent_that_is_a_script_is_found_with_the_interpreter_beside_its_link(modules, node, tmp_path):
    place = modules / "@scope/tool/dist/cli.js"
    place.chmod(0o755)
    (node / "tool").symlink_to(place)

    found, others, _ = find_programs((), [tmp_path / "nothing", node / "tool", place], OWNER)

    assert [each.enrolled.script.path for each in found] == [str(place)]
    assert found[0].enrolled.path == str(node / "node")
    assert others == ()
    assert find_programs((node / "tool",), (), OWNER)[0] == found
    with pytest.raises(MisuseError, match="not found"):
        find_programs((), [tmp_path / "nothing"], OWNER)


def test_only_a_process_that_runs_the_script_is_the_agent_at_work(modules, tmp_path):
    command = Path(shutil.which("node"))
    place, other = modules / "@scope/tool/dist/cli.js", tmp_path / "other.js"
    for each in (place, other):
        script(each, "#!/usr/bin/env node", "console.log(1); process.stdin.resume();\n")
    found, _, _ = find_programs((place,), (), OWNER, (command.parent,))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        subprocess.Popen([command, "cli.js"], cwd=place.parent, **pipes) as agent,
        subprocess.Popen([command, str(other)], **pipes) as stranger,
    ):
        for each in (agent, stranger):
            each.stdout.readline()
        running = running_pids(found, Uid(os.geteuid()))
        agent.stdin.close()
        stranger.stdin.close()

    assert agent.pid in running
    assert stranger.pid not in running
