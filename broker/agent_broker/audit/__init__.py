"""The hash-chained journal of what was decided, and the alerts."""
