"""Every client that is measured: a module of this folder each, with its ``CLIENT``."""

from importlib import import_module

from tests.e2e.clients import maven, netrc_first, run_with, ssh_scripts, uv
from tests.e2e.clients.row import Client

_MODULES = (
    "git",
    "docker",
    "twine",
    "pip",
    "uv",
    "keyring",
    "aws",
    "ssh",
    "kubectl",
    "gcp",
    "cargo",
    "azure",
    "gh",
    "pnpm",
    "npm",
    "dotenv",
    "netrc",
)

CLIENTS: tuple[Client, ...] = (
    *(import_module(f"tests.e2e.clients.{name}").CLIENT for name in _MODULES),
    ssh_scripts.PARAMIKO,
    ssh_scripts.ASYNCSSH,
    uv.TABLES,
    netrc_first.GIT,
    netrc_first.PIP,
    run_with.CURL,
    run_with.NPM,
)

BY_HAND: tuple[Client, ...] = (maven.CLIENT,)
"""Measured where they are named, and in no document: what they need is too heavy for every run."""
