"""Phantom in, real credential out: the local endpoints between an agent and its provider."""
