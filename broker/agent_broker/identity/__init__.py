"""Who is it: executable, environment, role, evidence; ``attest`` is the only door."""
