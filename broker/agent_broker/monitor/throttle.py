"""How many incidents one burst makes: one a program and decoy, and few enough in all that nobody drowns.

Pure: time comes in with each call. Two bounds, both over windows of WINDOW_NS:
1. The same program (one exec) on the same decoy: one report. Its repeats are counted, and told by its next report.
2. All programs on the same decoy: MAX_REPORTS. What is over it is counted, and ``overflows`` tells it once the window
   is over, so that a fork bomb of openers costs neither the disk nor the reader's attention.
"""

from collections import OrderedDict
from collections.abc import Hashable

WINDOW_NS = 1_000_000_000
MAX_REPORTS = 32
_MAX_KEYS = 4096


class _Window:
    __slots__ = ("count", "start_ns")

    def __init__(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self.count = 0


class Throttle:
    """See the module.

    Attributes:
        repeats: events that were not reported one by one since the start.
    """

    def __init__(self) -> None:
        self._programs: OrderedDict[tuple[Hashable, str], _Window] = OrderedDict()
        self._paths: dict[str, _Window] = {}
        self.repeats = 0

    def admit(self, program: Hashable, path: str, now_ns: int) -> int | None:
        """Return how often the program was seen since its last report, if this event is to be reported; else None.

        Args:
            program: what stands for one exec.
            path: of the decoy.
            now_ns: any clock that does not go backwards.
        """
        key = (program, path)
        window = self._programs.get(key)
        if window is not None and not _is_over(window, now_ns):
            window.count += 1
            self.repeats += 1
            return None
        if not self._admit_path(path, now_ns):
            self.repeats += 1
            return None
        self._programs[key] = _Window(now_ns)
        self._programs.move_to_end(key)
        while len(self._programs) > _MAX_KEYS:
            self._programs.popitem(last=False)
        return window.count if window is not None else 0

    @property
    def is_crowded(self) -> bool:
        """Whether some path has events that ``overflows`` did not tell yet."""
        return any(window.count > MAX_REPORTS for window in self._paths.values())

    def overflows(self, now_ns: int) -> list[tuple[str, int]]:
        """Return (path, events not reported one by one) of the crowded windows that are over, and forget them.

        To be called within about WINDOW_NS after ``admit`` said None: until then the path stays crowded.
        """
        over = [path for path, window in self._paths.items() if _is_over(window, now_ns)]
        counts = [(path, self._paths.pop(path).count - MAX_REPORTS) for path in over]
        return [(path, count) for path, count in counts if count > 0]

    def _admit_path(self, path: str, now_ns: int) -> bool:
        window = self._paths.get(path)
        if window is None or (_is_over(window, now_ns) and window.count <= MAX_REPORTS):
            window = self._paths[path] = _Window(now_ns)
        window.count += 1
        return window.count <= MAX_REPORTS


def _is_over(window: _Window, now_ns: int) -> bool:
    return now_ns - window.start_ns >= WINDOW_NS
