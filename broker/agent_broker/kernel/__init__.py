"""Bytes to facts: what the kernel says, decoded; nothing here decides."""
