"""A daemon's life: it settles when it is ready, and lives until it is told to stop."""

import asyncio
import ctypes
import gc
import signal

_GC_THRESHOLD = 2_000
"""Allocations between two young collections. Answers make no cycles, so the default (700) only costs time; refusals do,
and 20,000 of those in one collection kept the agent waiting for 10 to 20 ms under a flood."""


def settle() -> None:
    """Call once, when everything is imported and open: what exists now is not searched for garbage again.

    Memory that start-up needed and freed goes back to the kernel.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    ctypes.CDLL(None).malloc_trim(0)


def told_to_stop() -> asyncio.Event:
    """Return what is set when SIGTERM or SIGINT arrives, from now on; call it before anything else is started."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
