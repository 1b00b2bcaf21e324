"""Patterns of policies. Pure.

`*` stands for any characters but a slash, `**` for any characters, `?` for one that is not a slash; all
others stand for themselves, and the whole value must match. So `team/*` is not `team/a/b`, and a wildcard in
a SPIFFE id cannot reach into another path segment.
"""

import re
from functools import lru_cache

_TOKENS = re.compile(r"\*\*|\*|\?|[^*?]+")
_MEANING = {"**": ".*", "*": "[^/]*", "?": "[^/]"}


def matches(pattern: str, value: str) -> bool:
    """Whether the whole value fits the pattern."""
    return _compiled(pattern).fullmatch(value) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(
        "".join(_MEANING.get(token) or re.escape(token) for token in _TOKENS.findall(pattern)), re.DOTALL
    )
