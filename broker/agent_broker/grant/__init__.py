"""Who holds the use of which credential until when; and who is frozen."""
