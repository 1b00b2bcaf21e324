"""Words from anywhere, made fit for a condition, an event or a log: one line, bounded, without secrets."""

import re

LIMIT = 1024
"""bytes of UTF-8: what the API server takes as the note of an event"""
_CUT = "..."

# A password in a URL (database errors show theirs), a bearer token, and a JWT wherever it stands.
_URL_USER = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/@'\"]*(?::[^\s/'\"]*)?@")
_PARAMETER = re.compile(
    r"(?i)\b(?P<name>(?:[a-z_]*password|[a-z_]*passwd|pwd|[a-z_]*token|[a-z_]*secret[a-z_]*key|api[_-]?key))"
    r"(?P<sign>\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s,;&'\"]+)"
)
_BEARER = re.compile(r"(?i)\b(?P<scheme>bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*")


def redacted(text: str) -> str:
    """The text with *** for passwords and tokens that are recognized: a last guard, none should be there."""
    text = _URL_USER.sub(r"\g<scheme>***@", text)
    text = _BEARER.sub(r"\g<scheme> ***", text)
    text = _JWT.sub("***", text)
    return _PARAMETER.sub(r"\g<name>\g<sign>***", text)


def printable(text: str, limit: int = LIMIT) -> str:
    """One line of at most `limit` bytes of UTF-8, redacted; what is cut off is shown by "..."."""
    words = "".join(c if c.isprintable() else " " for c in redacted(text))
    line = " ".join(words.split())
    encoded = line.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return encoded.decode()
    return encoded[: limit - len(_CUT)].decode(errors="ignore").rstrip() + _CUT


def listed(items: list[str], limit: int = 5) -> str:
    """`a, b and 3 more`: at most `limit` items by name."""
    if len(items) <= limit:
        return ", ".join(items)
    return f"{', '.join(items[:limit])} and {len(items) - limit} more"


def counted(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
