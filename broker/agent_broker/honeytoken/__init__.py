"""Honeytokens: values and entries that look like credentials, open nothing, and are fresh random each time. Pure."""
