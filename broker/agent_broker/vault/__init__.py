"""Sealed bytes to secret and back."""
