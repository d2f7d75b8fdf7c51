"""Text that an attacker chose, made fit for a person's terminal and for a log."""

import re

# Shapes of well-known secrets (their public prefixes), so that a key in somebody's argv does not go on into our alerts.
_SECRET = re.compile(
    r"(sk-ant-|sk-proj-|sk-|ghp_|gho_|ghs_|github_pat_|xox[abprs]-|AKIA|ASIA|AIza|ya29\.|npm_|glpat-|eyJ)[A-Za-z0-9_\-.]{12,}"
)


def plain(raw: bytes) -> str:
    """Return bytes as printable text: control characters and broken UTF-8 are shown as escapes."""
    text = raw.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def plain_without_secrets(raw: bytes) -> str:
    """Return ``plain`` text with what looks like a well-known kind of secret cut to its public prefix."""
    return _SECRET.sub(lambda match: f"{match[1]}[redacted]", plain(raw))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
