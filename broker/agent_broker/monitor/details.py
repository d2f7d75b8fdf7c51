"""An incident goes out whatever fails in the look at its details: the one place that sees to it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)


@contextmanager
def details_of(what: str) -> Iterator[None]:
    """Log whatever goes wrong in the ``with`` block, and go on behind it: what it did not find out stays unknown.

    Args:
        what: whose details they are, for the log; nothing secret.
    """
    try:
        yield
    except Exception:  # noqa: BLE001 - a look reads what others made, and nobody is to be silenced by that
        _log.exception("the details of %s are missing", what)
