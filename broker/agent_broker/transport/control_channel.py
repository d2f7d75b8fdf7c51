"""What both sides of the control plane's connections agree on. Imported before grpc is used for the first time."""

import os
from pathlib import Path
from urllib.parse import quote

MAX_MESSAGE_BYTES = 32 << 20  # a user's original file travels in one message; the vault takes 16 MiB a value

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
"""gRPC's own log lines are no use to whoever reads our stderr: each failure arrives as one of our errors."""


def socket_address(path: Path) -> str:
    """Return the gRPC address of a unix socket; gRPC reads addresses as URIs, so ``%`` and the like are quoted."""
    return f"unix:{quote(str(path))}"
