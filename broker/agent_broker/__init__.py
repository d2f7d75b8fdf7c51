"""agent-broker: gives the use of a secret to kernel-verified AI coding agents, and to nobody else."""

__version__ = "0.1.0"
