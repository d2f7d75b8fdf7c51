"""The daemon's own sockets: attested requests of shims, and the control plane.

gRPC's fork handlers are switched off before grpcio is first imported (below): they can wait for each other for ever
when a process with an open stream starts another one, and no child of ours uses gRPC before it executes something.
"""

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
