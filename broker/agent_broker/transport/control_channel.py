"""What both sides of the control plane's connections agree on."""

from pathlib import Path
from urllib.parse import quote

MAX_MESSAGE_BYTES = 32 << 20  # a user's original file travels in one message; the vault takes 16 MiB a value

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)


def socket_address(path: Path) -> str:
    """Return the gRPC address of a unix socket; gRPC reads addresses as URIs, so ``%`` and the like are quoted."""
    return f"unix:{quote(str(path))}"
