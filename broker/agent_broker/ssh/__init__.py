"""SSH's formats, without a file, a socket or a clock: agent messages, what is signed, session binding, keys."""
