"""Alert sinks: where incidents go besides our own log; each is optional, none can hold up a record."""
