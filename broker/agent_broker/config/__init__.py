"""Where things lie, and what the operator chose."""
