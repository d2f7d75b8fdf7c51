"""File view: a FUSE folder in which the verified process sees a file's real content, and everybody else a decoy."""
