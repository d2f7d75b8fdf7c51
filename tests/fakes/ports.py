"""A port for a server that a test starts later."""

import random
import socket

_BELOW_THE_KERNELS_OWN = range(20_000, 32_768)
"""The kernel gives none of these to whoever asks for any, or connects (net.ipv4.ip_local_port_range begins there)."""


def free_port() -> int:
    """Return one that nobody has on loopback now, and that the kernel gives to nobody until it is taken."""
    while True:
        port = random.choice(_BELOW_THE_KERNELS_OWN)  # noqa: S311 - no secret
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:  # somebody has it
                continue
        return port
