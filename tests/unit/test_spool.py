"""The monitor's durable memory: nothing lost by a crash, nothing pushed out by a flood."""

import errno
import os
import signal
import stat
from pathlib import Path

import msgspec
import pytest

from agent_broker.errors import UnavailableError
from agent_broker.monitor.incident import new_incident
from agent_broker.monitor.spool import Spool
from tests.fakes.small_disk import fill, small_disk


def incident(what="it happened"):
    return new_incident(
        kind="decoy-opened", time_ns=1, severity="critical", what=what, tier="observe+", action="served-decoy"
    )


def sequences(spool):
    return [entry.sequence for entry in spool.unacknowledged()]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "spool"


def test_what_was_appended_is_there_after_a_restart(folder):
    first = Spool(folder)
    kept = [first.append(incident(str(number))) for number in range(3)]
    first.close()

    second = Spool(folder)

    assert second.unacknowledged() == tuple(kept)
    assert second.append(incident()).sequence == 4
    second.close()


def test_acknowledged_is_gone_and_stays_gone(folder):
    first = Spool(folder)
    for _ in range(5):
        first.append(incident())
    first.acknowledge(3)
    assert sequences(first) == [4, 5]
    first.close()

    second = Spool(folder)

    assert sequences(second) == [4, 5]
    second.acknowledge(5)
    second.close()
    third = Spool(folder)
    assert third.append(incident()).sequence == 6
    third.close()


def test_a_full_spool_drops_the_newest_and_counts_it_durably(folder):
    spool = Spool(folder, limit=2)
    assert [spool.append(incident(str(number))) is not None for number in range(4)] == [True, True, False, False]
    assert sequences(spool) == [1, 2]
    spool.close()

    again = Spool(folder, limit=2)

    assert again.dropped == 2
    again.close()


def revised(first, revision):
    return msgspec.structs.replace(first, revision=revision, what=f"revision {revision}")


def test_a_newer_revision_replaces_what_the_broker_has_not_acknowledged(folder):
    spool = Spool(folder)
    first, other = incident("first"), incident("other")
    for each in (first, other, revised(first, 1)):
        spool.append(each)
    assert [(entry.sequence, entry.incident.what) for entry in spool.unacknowledged()] == [
        (2, "other"), (3, "revision 1"),
    ]  # fmt: skip
    spool.acknowledge(1)  # of the older one, which was sent before
    assert sequences(spool) == [2, 3]
    spool.close()

    again = Spool(folder)

    assert [entry.incident.what for entry in again.unacknowledged()] == ["other", "revision 1"]
    assert again.append(revised(first, 2)).sequence == 4
    again.close()


def test_an_older_revision_changes_nothing(folder):
    spool = Spool(folder)
    first = incident()
    newest = spool.append(revised(first, 2))

    assert [spool.append(revised(first, number)) for number in (0, 1, 2)] == [newest] * 3
    assert spool.unacknowledged() == (newest,)
    spool.close()


def test_a_revision_needs_no_room_of_its_own(folder):
    spool = Spool(folder, limit=1)
    first = incident()
    spool.append(first)

    assert spool.append(revised(first, 1)) is not None
    assert spool.dropped == 0
    spool.close()


def test_many_revisions_do_not_grow_the_file(folder):
    spool = Spool(folder)
    first = incident()
    spool.append(first)
    size_bytes = (folder / "incidents").stat().st_size
    for number in range(1, 2000):
        spool.append(revised(first, number))

    assert (folder / "incidents").stat().st_size < 300 * size_bytes
    assert sequences(spool) == [2000]
    spool.close()
    again = Spool(folder)
    assert [entry.incident.revision for entry in again.unacknowledged()] == [1999]
    again.close()


def test_a_torn_last_line_is_cut_and_the_rest_kept(folder):
    spool = Spool(folder)
    spool.append(incident("whole"))
    spool.append(incident("torn"))
    spool.close()
    path = folder / "incidents"
    path.write_bytes(path.read_bytes()[:-7])

    again = Spool(folder)

    assert [entry.incident.what for entry in again.unacknowledged()] == ["whole"]
    again.close()


def damaged(folder, *numbers):
    spool = Spool(folder)
    for number in range(5):
        spool.append(incident(f"number {number}"))
    spool.close()
    path = folder / "incidents"
    lines = path.read_bytes().split(b"\n")
    for number in numbers:
        lines[number - 1] = b"\xff" + lines[number - 1][5:]
    path.write_bytes(b"\n".join(lines))
    return path.read_bytes()


def test_a_damaged_line_in_the_middle_is_set_aside_and_said_and_the_others_kept(folder):
    content = damaged(folder, 2)

    spool = Spool(folder)
    assert "(line 2)" in spool.damage
    assert str(folder / "incidents.damaged") in spool.damage
    assert (folder / "incidents.damaged").read_bytes() == content
    assert (folder / "incidents.damaged").stat().st_mode & 0o777 == 0o600
    assert [each.incident.what for each in spool.unacknowledged()] == [f"number {number}" for number in (0, 2, 3, 4)]
    assert spool.append(incident("more")).sequence == 6
    spool.close()
    again = Spool(folder)
    assert again.damage == ""
    assert sequences(again) == [1, 3, 4, 5, 6]
    again.close()


def test_several_damaged_lines_are_counted(folder):
    damaged(folder, 1, 3)
    spool = Spool(folder)
    assert "2 lines, the first is 1" in spool.damage
    spool.close()


def test_a_killed_monitor_loses_nothing_that_append_returned(folder):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        spool = Spool(folder)
        while True:
            os.write(writer, bytes([spool.append(incident()).sequence & 0xFF]))
    os.close(writer)
    for _ in range(50):
        os.read(reader, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    told = 50 + sum(len(piece) for piece in iter(lambda: os.read(reader, 4096), b""))
    os.close(reader)

    survived = Spool(folder)

    assert len(survived.unacknowledged()) >= told
    survived.close()


def test_a_full_disk_is_said_and_the_incident_stays_in_memory(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        spool = Spool(disk / "spool")
        spool.append(incident("before"))
        filler = fill(disk)
        with pytest.raises(UnavailableError, match="No space left"):
            for _ in range(100):
                spool.append(incident("x" * 1000))
        in_memory = sequences(spool)
        filler.unlink()
        spool.append(incident("after"))
        spool.close()

        again = Spool(disk / "spool")
        on_disk = [entry.incident.what[:6] for entry in again.unacknowledged()]
        again.close()

    assert in_memory[-1] == len(in_memory)
    assert on_disk[0] == "before"
    assert on_disk[-1] == "after"


def test_a_disk_that_fills_up_while_the_file_is_rewritten_leaves_the_old_file_in_use(folder, monkeypatch):
    spool = Spool(folder)
    for _ in range(300):
        spool.append(incident())

    replace = Path.replace

    def refuse(source, target):
        if target.name == "incidents":
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(source, target)

    with monkeypatch.context() as full:
        full.setattr("pathlib.Path.replace", refuse)
        with pytest.raises(UnavailableError, match="No space left"):
            spool.acknowledge(290)
    spool.append(incident("after"))
    spool.close()

    again = Spool(folder)
    assert sequences(again)[-1] == 301
    again.close()


def test_a_torn_mark_tells_everything_again(folder):
    spool = Spool(folder)
    for _ in range(3):
        spool.append(incident())
    spool.acknowledge(2)
    spool.close()
    (folder / "acknowledged").write_bytes(b"")

    again = Spool(folder)

    assert sequences(again) == [1, 2, 3]
    again.close()


def test_many_acknowledgements_shrink_the_file(folder):
    spool = Spool(folder)
    for _ in range(300):
        spool.append(incident())
    before = (folder / "incidents").stat().st_size
    spool.acknowledge(299)

    assert (folder / "incidents").stat().st_size < before / 100
    assert sequences(spool) == [300]
    spool.append(incident())
    spool.close()
    again = Spool(folder)
    assert sequences(again) == [300, 301]
    again.close()


def test_only_root_can_read_it(folder):
    spool = Spool(folder)
    spool.append(incident())
    spool.close()

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "incidents").stat().st_mode) == 0o600


def test_what_survives_is_the_same_record(folder):
    spool = Spool(folder)
    made = incident()
    spool.append(made)
    spool.close()

    again = Spool(folder)

    assert msgspec.to_builtins(again.unacknowledged()[0].incident) == msgspec.to_builtins(made)
    again.close()
