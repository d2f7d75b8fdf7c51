"""The daemon's own sockets: attested requests of shims, and the control plane."""
