"""The agent in a container, with the broker's unix socket bind-mounted: namespaces as a container runtime makes them.

Nothing here is a container runtime: ``unshare`` makes the namespaces, ``mount --bind`` gives the socket. Root's
container is made by root, as docker's and podman's are that root starts; the rootless one by its user.
"""

import shutil
import subprocess
from pathlib import Path

import msgspec

from tests.demo.processes import broker_command
from tests.e2e.accounts.stage import Seen, Stage

_SOCKET = "run/broker.sock"
_INSIDE = """
set -e
image=$1 socket=$2 uid=$3; shift 3
mount --make-rprivate /
mount --bind "$image" "$image"
for each in usr lib lib64 bin dev tmp etc var; do
    test ! -d "/$each" || { mkdir -p "$image/$each"; mount --rbind "/$each" "$image/$each"; }
done
mkdir -p "$image/run" "$image/proc"
touch "$image/run/broker.sock"
mount --bind "$socket" "$image/run/broker.sock"
mount -t proc proc "$image/proc"
exec chroot "$image" /usr/bin/setpriv --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs "$@"
"""
"""A root folder of the image's own, and in it the machine's libraries, as layers of an image would be."""

_BY_TCP = """
import socket, sys
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
except OSError as error:
    print("unreachable:", error.strerror)
"""


def containers(stage: Stage) -> dict[str, object]:
    """One turn in each combination of namespaces."""
    image = stage.world.root / "image"
    (image / "opt").mkdir(parents=True)
    own = image / "opt/claude"
    shutil.copyfile(stage.program.resolve(), own)
    own.chmod(0o755)
    temporary = stage.world.root / "temporary"
    temporary.mkdir()
    temporary.chmod(0o1777)
    told: dict[str, object] = {}
    shared = stage.program
    for name, flags in (("mount+pid", ""), ("mount+pid+net", "--net")):
        told[name] = _plain(_root_container(stage, image, flags, shared))
    told["net by tcp"] = _plain(
        _inside(stage, image, "--net", ["/usr/bin/python3", "-c", _BY_TCP, str(stage.world.port)])
    )
    told["own binary"] = _plain(_root_container(stage, image, "", Path("/opt/claude")))
    stage.thaw()
    told["rootless"] = _plain(_rootless(stage))
    stage.thaw()
    told["rootless+net"] = _plain(_rootless(stage, "-n"))
    stage.thaw()
    _enroll_with(stage, own)
    told["own binary, enrolled"] = _plain(_root_container(stage, image, "--net", Path("/opt/claude")))
    told["replay inside"] = _plain(_replay_inside(stage, image))
    stage.thaw()
    told["uid of another"] = _plain(_root_container(stage, image, "", Path("/opt/claude"), uid=54321))
    stage.thaw()
    told["outside"] = _plain(stage.claude())
    return told


def _environment(stage: Stage, socket: str) -> list[str]:
    wiring = {
        "HOME": str(stage.person.home),
        "PATH": "/usr/bin:/bin",
        "CLAUDE_CODE_TMPDIR": str(stage.world.root / "temporary"),
        "ANTHROPIC_UNIX_SOCKET": socket,
        "ANTHROPIC_BASE_URL": "http://agent-broker.invalid",
        "ANTHROPIC_AUTH_TOKEN": stage.phantom_of(stage.person),
    }
    return ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in wiring.items())]


def _root_container(stage: Stage, image: Path, flags: str, program: Path, uid: int = 0) -> Seen:
    words = [*_environment(stage, f"/{_SOCKET}"), str(program), "-p", "work"]
    return _inside(stage, image, flags, words, uid)


def _inside(stage: Stage, image: Path, flags: str, words: list[str], uid: int = 0) -> Seen:
    who = str(uid or stage.person.account.pw_uid)
    outer = ["unshare", "--mount", "--pid", "--fork", "--kill-child", *flags.split()]
    process = subprocess.Popen(
        [*outer, "/bin/sh", "-c", _INSIDE, "sh", str(image), str(stage.socket), who, *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/", env={},
        start_new_session=True,
    )  # fmt: skip
    return stage.finish(process)


def _rootless(stage: Stage, *flags: str) -> Seen:
    """The user's own container: root in it is the user outside."""
    words = _environment(stage, str(stage.socket))
    return stage.turn("/usr/bin/unshare", "-U", "-r", "-m", "-p", "-f", *flags, *words, stage.program, "-p", "work")


def _replay_inside(stage: Stage, image: Path) -> Seen:
    """Another program in the same container, with the phantom, on the same socket."""
    code = (
        "import http.client, os, socket; end = socket.socket(socket.AF_UNIX);"
        f"end.connect('/{_SOCKET}'); client = http.client.HTTPConnection('api'); client.sock = end;"
        "phantom = {'Authorization': 'Bearer ' + os.environ['ANTHROPIC_AUTH_TOKEN']};"
        "client.request('POST', '/v1/messages', '{}', phantom);"
        "print('unix', client.getresponse().status)"
    )
    return _inside(stage, image, "--net", [*_environment(stage, f"/{_SOCKET}"), "/usr/bin/python3", "-c", code])


def _enroll_with(stage: Stage, own: Path) -> None:
    """Enroll again, with the image's executable beside the other."""
    whose = ("--user", stage.person.account.pw_name, "--home", str(stage.person.home))
    broker_command(stage.world.root, "unenroll", "claude", *whose, "--yes")
    stage.enroll(stage.person, "--as", "work", "--binary", str(own))


def _plain(seen: Seen) -> dict[str, object]:
    return dict(msgspec.to_builtins(seen))
