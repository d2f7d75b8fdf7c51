"""The foreign code that the claims of the table load: in each language, it says FOREIGN and does nothing else."""

import os
import struct
import subprocess
import zlib
from pathlib import Path

from tests.demo.agent import more_agents

SAYS = "FOREIGN"
SYSTEM_PYTHON = "/usr/bin/python3"
SYSTEM_NODE = "/usr/bin/node"
(SYSTEM_LOADER, *_) = (str(path) for folder in ("/lib64", "/lib") for path in Path(folder).glob("ld-linux-*.so.*"))
_LIBRARY = """
#include <unistd.h>
__attribute__((constructor)) static void start(void) { write(2, "FOREIGN\\n", 8); }
unsigned int la_version(unsigned int version) { return version; }
void gconv(void) {}
int bind_engine(void) { return 0; }
"""
_USER = """
#include <nl_types.h>
#include <stdio.h>
int main(void) { puts(catgets(catopen("foreign", NL_CAT_LOCALE), 1, 1, "own")); return 0; }
"""
_PYTHON = "import posix; posix.write(2, b'FOREIGN\\n')\n"
_PERL = 'BEGIN { print STDERR "FOREIGN\\n" } 1;\n'
_SCRIPT = "console.error('FOREIGN');\n"
_SHELL = "#!/bin/sh\necho FOREIGN >&2\nexit 1\n"
_OPENSSL = "nodejs_conf = all\nopenssl_conf = all\n[all]\nproviders = list\n[list]\nforeign = it\n[it]\nactivate = 1\n"


def build(folder: Path) -> None:
    """Make everything that claims.py names, readable by everybody."""
    _libraries(folder)
    _glibc(folder)
    _scripts(folder)
    _node(folder)
    _git(folder)
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)


def _write(path: Path, text: str, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def _compile(source: Path, target: Path, *options: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-o", target, source, *options], check=True)


def _libraries(folder: Path) -> None:
    source = _write(folder / "foreign.c", _LIBRARY)
    _compile(source, folder / "foreign.so", "-shared", "-fPIC")
    _compile(source, folder / "libraries/libdep.so", "-shared", "-fPIC")
    nothing = _write(folder / "nothing.c", "int nothing;\n")
    _compile(nothing, folder / "own/libdep.so", "-shared", "-fPIC")
    main = _write(folder / "main.c", "int main(void) { return 0; }\n")
    own = folder / "own"
    _compile(main, folder / "linked", "-Wl,--no-as-needed", f"-L{own}", "-ldep", f"-Wl,-rpath,{own}")
    _write(folder / "provider.cnf", f"{_OPENSSL}module = {folder}/foreign.so\n")
    _write(folder / "by-name.cnf", _OPENSSL)


def _glibc(folder: Path) -> None:
    _write(folder / "gconv/gconv-modules", "module FOREIGN// INTERNAL foreign 1\n")
    (folder / "gconv/foreign.so").symlink_to(folder / "foreign.so")
    subprocess.run(["cp", "-r", "/usr/lib/locale/C.utf8", folder / "locale-foreign"], check=True)
    (folder / "locales").mkdir()
    (folder / "locale-foreign").rename(folder / "locales/foreign")
    _write(folder / "messages.txt", "$set 1\n1 FOREIGN\n")
    subprocess.run(["gencat", folder / "foreign.cat", folder / "messages.txt"], check=True)
    _compile(_write(folder / "catalogue.c", _USER), folder / "catalogue")
    _write(folder / "host.conf", "FOREIGN on\n")
    _write(folder / "aliases", "alias FOREIGN\n")
    name = SAYS.encode() + b"\0"
    head = struct.pack(">4s16x6I", b"TZif", 0, 0, 0, 0, 1, len(name))
    (folder / "zones").mkdir()
    (folder / "zones/Nowhere").write_bytes(head + struct.pack(">iBB", 0, 0, 0) + name)


def _scripts(folder: Path) -> None:
    _write(folder / "python/sitecustomize.py", _PYTHON)
    _write(folder / "python/foreign.py", _PYTHON)
    _write(folder / "warned/foreign.py", _PYTHON)
    version = subprocess.run(
        [SYSTEM_PYTHON, "-c", "import sys; print('python%d.%d' % sys.version_info[:2])"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    _write(folder / f"python-home/lib/{version}/encodings/__init__.py", _PYTHON)
    _write(folder / f"python-base/lib/{version}/site-packages/usercustomize.py", _PYTHON)
    _write(folder / "modules/own.py", "")
    cached = folder / "pycache" / str(folder / "modules").lstrip("/")
    cached.mkdir(parents=True)
    make = (
        "import py_compile, sys; py_compile.compile(sys.argv[1], cfile=sys.argv[2] + '/own.' + "
        "sys.implementation.cache_tag + '.pyc', invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)"
    )
    subprocess.run([SYSTEM_PYTHON, "-c", make, folder / "python/foreign.py", cached], check=True)
    _write(folder / "perl/Foreign.pm", _PERL)
    _write(folder / "perl/strict.pm", _PERL)
    _write(folder / "start.sh", "echo FOREIGN >&2\n")
    _write(folder / "foreign.sh", _SHELL, 0o755)


def _node(folder: Path) -> None:
    _write(folder / "foreign.js", _SCRIPT)
    _write(folder / "node/foreign/index.js", _SCRIPT)
    _write(folder / "linked-script/node_modules/dep/index.js", _SCRIPT)
    _write(folder / "own-script/node_modules/dep/index.js", "")
    _write(folder / "own-script/main.js", "require('dep');\n")
    _write(folder / "own-script/importing.js", "require('./beside.js');\n")
    _write(folder / "own-script/beside.js", "")
    _write(folder / "linked-script/beside.js", "")
    (folder / "linked-script/main.js").symlink_to(folder / "own-script/main.js")
    (folder / "own-script/node_modules/linked").symlink_to(folder / "package")
    _write(folder / "package/index.js", "try { require('dep'); } catch {}\n")
    _write(folder / "through-link/node_modules/dep/index.js", _SCRIPT)
    (folder / "through-link/node_modules/linked").symlink_to(folder / "package")
    _write(folder / "through-link/main.js", "require('linked');\n")
    _write(folder / "tries-foreign.js", "try { require('foreign'); } catch {}\n")
    _forge_compile_cache(folder / "compiled")


def _forge_compile_cache(folder: Path) -> None:
    """Compile a foreign module as long as a genuine one, then give its entry the check sum of the genuine one."""
    own, foreign = b"console.error('GENUINE');\n", b"console.error('FOREIGN');\n"
    _write(folder / "main.js", "require('./module.js');\n")
    (folder / "module.js").write_bytes(foreign)
    node = more_agents() / "node_modules/node/bin/node"
    environment = {**os.environ, "NODE_COMPILE_CACHE": str(folder / "cache")}
    subprocess.run([node, folder / "main.js"], env=environment, check=True, capture_output=True)
    (folder / "module.js").write_bytes(own)
    for path in (folder / "cache").rglob("*"):
        if path.is_file():
            sums = [struct.pack("<I", zlib.crc32(source)) for source in (foreign, own)]
            path.write_bytes(path.read_bytes().replace(*sums, 1))


def _git(folder: Path) -> None:
    _write(folder / "git-config", f"[alias]\nforeign = !{folder}/foreign.sh\n")
    _write(folder / "git-programs/git-foreign", _SHELL, 0o755)
    _write(folder / "git-template/hooks/post-checkout", _SHELL, 0o755)
    for name in ("repository", "other"):
        git = ["git", "-C", folder / name]
        (folder / name).mkdir()
        for words in (
            ["init", "-q"],
            ["config", "user.email", "a@localhost"],
            ["config", "user.name", "a"],
            ["config", "safe.directory", "*"],
        ):
            subprocess.run([*git, *words], check=True)
        _write(folder / name / "file", "1\n")
        subprocess.run([*git, "add", "file"], check=True)
        subprocess.run([*git, "commit", "-qm", "first"], check=True)
        _write(folder / name / "file", "2\n")
    _write(folder / "other/.git/hooks/pre-commit", _SHELL, 0o755)
