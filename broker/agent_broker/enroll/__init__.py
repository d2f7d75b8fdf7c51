"""Plan, journal, apply, undo: the only code that edits a user's files."""
