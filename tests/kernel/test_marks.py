"""Marks of the enforce tier in maps of the running kernel: what stands in them. Who is denied: tests/vm."""

import ctypes
import os

import pytest

from agent_broker.errors import UnavailableError
from agent_broker.kernel import wire
from agent_broker.kernel.events import FileFacts, OpenFile
from agent_broker.kernel.libbpf import Libbpf
from agent_broker.kernel.marks import FileNumbers, KernelMarks, filter_bit

pytestmark = pytest.mark.kernel

_HASH, _ARRAY = 1, 2  # include/uapi/linux/bpf.h
_FILTER_WORDS = 16384  # bpf/marks.h
_ROOM = 20
DEVICE, AGENT = 0x800001, 77
NOT_OPEN = 100_000


class Programs:
    """The maps of marks, without programs that look into them; a descriptor's number is its file's."""

    def __init__(self):
        self.libbpf = Libbpf()
        self.maps = {
            "marks": self._map(_HASH, wire.FILE_KEY.size, wire.MARK.size, _ROOM),
            "filter": self._map(_ARRAY, wire.FILTER_INDEX.size, wire.FILTER_WORD.size, _FILTER_WORDS),
        }

    def _map(self, kind, key_bytes, value_bytes, entries):
        made = self.libbpf.raw("bpf_map_create")(kind, None, key_bytes, value_bytes, entries, None)
        assert made >= 0
        return made

    def close(self):
        for fd in self.maps.values():
            os.close(fd)

    def look_up(self, name, key, value):
        found = ctypes.create_string_buffer(value.size)
        error = self.libbpf.number_or_error("bpf_map_lookup_elem", self.maps[name], key, found)
        return None if error else value.unpack(found.raw)

    def mark_of(self, ino):
        return self.look_up("marks", wire.FILE_KEY.pack(DEVICE, ino), wire.MARK)

    def may_be_marked(self, ino):
        """What the kernel side asks first."""
        bit = filter_bit(FileNumbers(DEVICE, ino))
        (word,) = self.look_up("filter", wire.FILTER_INDEX.pack(bit // 64), wire.FILTER_WORD)
        return bool(word >> bit % 64 & 1)

    def own_file(self, fd):
        if fd == NOT_OPEN:
            raise UnavailableError("it is not open")
        facts = dict.fromkeys(FileFacts.__struct_fields__, 0) | {"dev": DEVICE, "ino": fd, "generation": fd + 1}
        return OpenFile(**(dict.fromkeys(OpenFile.__struct_fields__, 0) | {"fd": fd, "file": FileFacts(**facts)}))

    def own_files(self, fds):
        return tuple(None if fd == NOT_OPEN else self.own_file(fd) for fd in fds)


@pytest.fixture
def programs():
    made = Programs()
    yield made
    made.close()


@pytest.fixture
def marks(programs):
    return KernelMarks(programs, programs)


def test_many_marks_stand_in_the_kernel_s_maps(programs, marks):
    *files, refused = marks.mark_all([*((number, AGENT) for number in range(_ROOM)), (NOT_OPEN, AGENT)])

    assert [each.ino for each in files] == list(range(_ROOM))
    assert [programs.mark_of(number) for number in range(_ROOM)] == [(AGENT, ino + 1, 0) for ino in range(_ROOM)]
    assert all(programs.may_be_marked(number) for number in range(_ROOM))
    assert isinstance(refused, UnavailableError)


def test_those_that_find_no_room_are_refused_and_the_others_stand(programs, marks):
    marks.mark_all([(number, 0) for number in range(_ROOM - 1)])

    again, last, *over = marks.mark_all([(3, AGENT), (100, AGENT), (101, AGENT), (102, AGENT)])

    assert (again.ino, last.ino) == (3, 100)
    assert [programs.mark_of(ino) is not None for ino in (3, 100, 101, 102)] == [True, True, False, False]
    assert programs.mark_of(3) == (AGENT, 4, 0)
    assert all(isinstance(each, UnavailableError) for each in over)
    assert [programs.may_be_marked(ino) for ino in (3, 100, 101, 102)] == [True, True, False, False]


def test_a_mark_that_goes_leaves_the_filter_as_the_others_need_it(programs, marks, monkeypatch):
    monkeypatch.setattr("agent_broker.kernel.marks.filter_bit", lambda file: file.ino // 2)
    monkeypatch.setitem(globals(), "filter_bit", lambda file: file.ino // 2)
    files = marks.mark_all([(number, 0) for number in (0, 1, 4, 5)])
    marks.mark(4, 0)  # again

    for file in (files[0], files[2], files[3]):
        marks.unmark(file)

    assert [programs.mark_of(ino) is not None for ino in (0, 1, 4, 5)] == [False, True, False, False]
    assert (programs.may_be_marked(1), programs.may_be_marked(4)) == (True, False)
