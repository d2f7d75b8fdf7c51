"""A FUSE file system with one file, served by an ordinary process: ``fuse_server.py FD FILE``.

FD is /dev/fuse, mounted already; the one file is FILE's bytes, executable, under its name. Ends when it is unmounted.
For the layouts see linux/fuse.h.
"""

import errno
import os
import struct
import sys
from pathlib import Path

_IN = struct.Struct("<IIQQIIII")
_ATTR = struct.Struct("<6Q10I")
_LOOKUP, _GETATTR, _OPEN, _READ, _STATFS, _RELEASE, _FLUSH, _INIT, _ACCESS = 1, 3, 14, 15, 17, 18, 25, 26, 34
_UNANSWERED = (2, 36, 42)  # FORGET, INTERRUPT, BATCH_FORGET
_ROOT, _FILE = 1, 2
_BUFFER_BYTES = 1 << 20


def _attributes(node: int, size: int) -> bytes:
    mode, links = (0o040755, 2) if node == _ROOT else (0o100755, 1)
    return _ATTR.pack(
        node, size, (size + 511) // 512, 0, 0, 0, 0, 0, 0, mode, links, os.getuid(), os.getgid(), 0, 4096, 0
    )


def _answer(opcode: int, node: int, body: bytes, name: bytes, content: bytes) -> bytes | int:
    """Return what is answered, or an error number."""
    if opcode == _LOOKUP and body.rstrip(b"\0") != name:
        return errno.ENOENT
    if opcode == _READ:
        _, offset, wanted = struct.unpack_from("<QQI", body)
        return content[offset : offset + wanted]
    answers = {
        _INIT: struct.pack("<IIIIHHIIHHI7I", 7, 31, 0, 0, 12, 9, 4096, 1, 0, 0, 0, *[0] * 7),
        _LOOKUP: struct.pack("<QQQQII", _FILE, 0, 60, 60, 0, 0) + _attributes(_FILE, len(content)),
        _GETATTR: struct.pack("<QII", 60, 0, 0) + _attributes(node, 0 if node == _ROOT else len(content)),
        _OPEN: bytes(16),
        _STATFS: bytes(80),
    }
    return answers.get(opcode, b"" if opcode in {_RELEASE, _FLUSH, _ACCESS} else errno.ENOSYS)


def main() -> None:
    """Serve until it is unmounted."""
    fd, file = int(sys.argv[1]), Path(sys.argv[2])
    name, content = os.fsencode(file.name), file.read_bytes()
    while True:
        try:
            request = os.read(fd, _BUFFER_BYTES)
        except OSError as error:
            if error.errno == errno.ENOENT:  # the request was taken back
                continue
            if error.errno == errno.ENODEV:
                return
            raise
        _, opcode, unique, node, *_ = _IN.unpack_from(request)
        if opcode not in _UNANSWERED:
            answer = _answer(opcode, node, request[_IN.size :], name, content)
            error, data = (-answer, b"") if isinstance(answer, int) else (0, answer)
            os.write(fd, struct.pack("<IiQ", 16 + len(data), error, unique) + data)


if __name__ == "__main__":
    main()
