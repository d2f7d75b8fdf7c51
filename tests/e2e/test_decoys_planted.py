"""Decoys with both daemons and the real command: planted unseen, watched, known by value, taken out unseen."""

import json
import os
import subprocess
import threading
import time

import pytest

from tests.bench.stage import OWNER, SHIM, stage
from tests.e2e.attacks.alert_log import in_work

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_PATIENCE_S = 60
MINE = "MINE='of two\nlines'\n"
ASK = """
import http.client, sys
connection = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]))
header, prefix = sys.argv[2], sys.argv[3]
value = sys.stdin.read()
connection.request('POST', '/v1/messages', body='{}', headers={header: prefix + value})
print(connection.getresponse().status)
"""


@pytest.fixture(scope="module")
def world():
    with stage() as made:
        made.home = made.folder / "home"
        made.home.mkdir()
        os.chown(made.home, OWNER, OWNER)
        made.have(monitor=True, broker=True)
        yield made


@pytest.fixture
def planted(world, request):
    """A file with a line of the user's and a decoy's in it, and the decoy's token."""
    world.files = getattr(world, "files", 0) + 1
    place = world.home / f"{world.files}.env"
    place.write_text(MINE)
    place.chmod(0o640)
    os.chown(place, OWNER, OWNER)
    os.utime(place, ns=(1_700_000_000_123_456_789, 1_600_000_000_987_654_321))
    run(world, "decoy", "plant", str(place), "--kind", "env-file", *whose(world), "--yes")
    yield place, place.read_text().split("PROD_DEPLOY_TOKEN=")[1].split("\n")[0]  # our reading is root's: info
    run(world, "decoy", "remove", str(place), "--yes", check=False)


def whose(world):
    return ("--user", str(OWNER), "--home", str(world.home))


def run(world, *arguments, check=True, **options):
    done = subprocess.run(
        [".venv/bin/agent-broker", "--root", str(world.layout.root), *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "80"}, **options,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stderr
    return done


def as_owner(*command, text=""):
    return subprocess.run(
        command, user=OWNER, group=OWNER, extra_groups=[], cwd="/", input=text, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def present(world, value, header="x-api-key", prefix=""):
    """Send a value to the injection endpoint as a program of the user's; return the answer's status."""
    done = as_owner("/usr/bin/python3", "-c", ASK, str(world.inject_port), header, prefix, text=value)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def all_alerts(world, path):
    """The alerts about one file."""
    said = run(world, "alerts", "--json", "--limit", "1000").stdout
    told = [json.loads(line) for line in said.splitlines()]
    return [each for each in told if each["path"] == str(path)]


def alerts(world, path):
    """The alerts about one file, without those of this test itself, which is root."""
    return [each for each in all_alerts(world, path) if each["severity"] != "info"]


def soon(look):
    """Wait until there is something to see; return it."""
    end = time.monotonic() + _PATIENCE_S
    while not (found := look()) and time.monotonic() < end:
        threading.Event().wait(0.05)
    return found


def fence(world):
    """Return when every alert that was made before has been stored."""
    assert soon(lambda: in_work(world.layout.root) == 0)


def test_planting_renewing_and_removing_raise_no_alert_and_leave_the_file_as_it_was(world):
    place = world.home / "plain.env"
    place.write_text(MINE)
    os.chown(place, OWNER, OWNER)
    os.utime(place, ns=(1_700_000_000_123_456_789, 1_600_000_000_987_654_321))
    before = place.stat()
    plan = run(world, "decoy", "plant", "plain.env", "--kind", "env-file", *whose(world), "--yes").stdout
    assert "planted" in plan
    assert all(len(line) <= 80 for line in plan.splitlines())
    assert place.stat().st_size > before.st_size
    run(world, "decoy", "refresh", str(place), "--yes")
    (listed,) = json.loads(run(world, "decoy", "list", "--json").stdout)
    assert (listed["path"], listed["kind"], listed["expired"]) == (str(place), "env-file", False)
    run(world, "decoy", "remove", str(place), "--yes")
    fence(world)
    assert all_alerts(world, place) == []
    after = place.stat()
    assert place.read_text() == MINE
    for field in ("st_mode", "st_uid", "st_gid", "st_mtime_ns"):
        assert getattr(after, field) == getattr(before, field)


def test_whoever_opens_it_is_told(world):
    place = world.home / ".config/github/token"
    run(world, "decoy", "plant", str(place), "--kind", "github-token", *whose(world), "--yes")
    assert "ghp_" in as_owner("/bin/cat", str(place)).stdout
    (incident,) = soon(lambda: alerts(world, place))
    assert (incident["kind"], incident["severity"]) == ("decoy-opened", "critical")
    assert incident["lineage"][0]["image"]["filename"].endswith("/cat")


@pytest.mark.parametrize(
    ("header", "prefix"),
    [("x-api-key", ""), ("authorization", "Bearer "), ("x-goog-api-key", ""), ("cookie", "session=1; token=")],
)
def test_whoever_presents_its_value_is_told_and_frozen(world, planted, header, prefix):
    place, token = planted
    assert present(world, token, header, prefix) == 401
    (incident,) = soon(lambda: [each for each in alerts(world, place) if each["kind"] == "decoy-used"])
    assert (incident["severity"], incident["action"], incident["holds"]) == ("critical", "refused", "env-file")
    assert incident["lineage"][0]["image"]["uid"] == OWNER
    assert "python3" in incident["lineage"][0]["image"]["filename"]
    assert incident["offenders"][0] == incident["lineage"][0]["proc_id"]
    assert token not in json.dumps(incident)
    frozen = json.loads(run(world, "freeze", "--list", "--json").stdout)
    assert any(incident["what"] == each["reason"] for each in frozen)


def test_a_value_on_agent_sock_is_told_as_well(world, planted):
    place, token = planted
    environment = f"AGENT_BROKER_ROOT={world.layout.root}"
    done = as_owner("/usr/bin/env", environment, str(world.driver(SHIM.name)), "get", token)
    assert done.returncode == 3
    (incident,) = soon(lambda: [each for each in alerts(world, place) if each["kind"] == "decoy-used"])
    assert "agent.sock" in incident["what"]
    assert incident["lineage"][0]["image"]["filename"] == str(world.driver(SHIM.name))


def test_a_value_that_is_no_decoy_s_any_more_is_nobody_s(world, planted):
    place, token = planted
    run(world, "decoy", "refresh", str(place), "--yes")
    told = len(alerts(world, place))
    assert present(world, token) == 401  # no phantom
    fence(world)
    assert len(alerts(world, place)) == told


def test_a_restarted_pair_knows_it_again(world, planted):
    place, token = planted
    world.have(monitor=False, broker=False)
    world.monitor.start()
    world.broker.start()
    assert present(world, token) == 401
    assert soon(lambda: [each for each in alerts(world, place) if each["kind"] == "decoy-used"])


def test_the_list_is_not_for_the_users_whose_files_they_are(world, planted):
    """Whoever can read it knows what not to touch."""
    assert str(planted[0]) in run(world, "decoy", "list", "--json").stdout
    folder = world.layout.decoys_folder
    assert folder.stat().st_mode & 0o777 == 0o750
    look = "import os, sys; os.listdir(sys.argv[1])"
    done = as_owner("/usr/bin/python3", "-c", look, str(folder))
    assert "PermissionError" in done.stderr


def test_nothing_of_the_value_is_in_what_is_kept(world, planted):
    place, token = planted
    present(world, token)
    assert soon(lambda: alerts(world, place))
    kept = [path for path in world.layout.root.rglob("*") if path.is_file()]
    assert len(kept) > 5
    assert [path for path in kept if token.encode() in path.read_bytes()] == []
