"""The backend ``bcc``: the programs of bpf/bcc, compiled on this machine when the monitor starts."""
