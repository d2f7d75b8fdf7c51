"""Which of several installed versions is the newest."""

import re
from collections.abc import Iterable
from pathlib import Path


def newest_first(paths: Iterable[Path]) -> list[Path]:
    """Order by the numbers in the paths: 2.1.10 is newer than 2.1.9."""
    return sorted(paths, key=lambda path: [int(digits) for digits in re.findall("[0-9]+", str(path))], reverse=True)
