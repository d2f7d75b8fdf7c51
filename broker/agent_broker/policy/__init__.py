"""Pure rules: may this agent use this credential, in this way, now."""
