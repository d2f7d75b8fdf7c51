"""A clock that stands still until a test moves it."""

from dataclasses import dataclass

SECOND_NS = 1_000_000_000


@dataclass
class FakeClock:
    """Both clocks of the product's Clock; ``advance_s`` moves them together."""

    wall: int = 1_800_000_000 * SECOND_NS
    boot: int = 5_000 * SECOND_NS

    def wall_ns(self) -> int:
        return self.wall

    def boot_ns(self) -> int:
        return self.boot

    def advance_s(self, seconds: float) -> None:
        self.wall += int(seconds * SECOND_NS)
        self.boot += int(seconds * SECOND_NS)
