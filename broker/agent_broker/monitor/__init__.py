"""Marks, decoys, detection, tiers, spool. Knows no secret, no vault, no policy."""
