"""A person at a terminal who answers each question."""

import os
import select
from collections.abc import Sequence


def converse(terminal: int, answers: Sequence[bytes]) -> bytes:
    """Give one answer a question, as often as it takes; return all that was said.

    What is typed before the program reads its terminal is thrown away, so an answer that is not echoed is given again.
    """
    said = b""
    while True:
        ready, _, _ = select.select([terminal], [], [], 0.5)
        if not ready and said.rstrip().endswith(b"[y/N]:"):  # an answer is echoed
            os.write(terminal, answers[min(said.count(b"[y/N]:"), len(answers)) - 1])
        if not ready:
            continue
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # how a terminal ends
            return said
        said += chunk
