"""The order of a list of operations, and the token that says where in it the next page begins. Pure."""

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import datetime

from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.operation_filter import (
    KEYS,
    MAX_FILTERS,
    OPTIONAL,
    OperationFilter,
    SortKey,
    checked_value,
)

DEFAULT_ORDER = (SortKey("queued_time"), SortKey("name"))
SortValue = str | datetime | Stage | None
"""of a key; None where the operation has none, which comes last in either direction"""
Position = tuple[SortValue, ...]
"""what an operation has for each key of the order"""

_VERSION = 1


def split_order(
    filters: Sequence[OperationFilter],
) -> tuple[list[OperationFilter], tuple[SortKey, ...]]:
    """The conditions, and the order, which always ends with the name, so that it is total.

    By queued time, then name, when nothing is said. Raises InvalidArgument for a key that is named twice, and
    for more than MAX_FILTERS filters.
    """
    if len(filters) > MAX_FILTERS:
        raise InvalidArgument(f"filter: more than {MAX_FILTERS} conditions; ask for less at once")
    conditions = [f for f in filters if not isinstance(f.value, SortKey)]
    order: list[SortKey] = []
    for value in (f.value for f in filters if isinstance(f.value, SortKey)):
        if value.key in {named.key for named in order}:
            raise InvalidArgument(f"filter: sort_order: {value.key} is named twice; name each key once")
        order.append(value)
    if not order:
        return conditions, DEFAULT_ORDER
    named = [key.key for key in order]
    # No two operations have one name: what would follow it decides nothing.
    total = order[: named.index("name") + 1] if "name" in named else [*order, SortKey("name")]
    return conditions, tuple(total)


def encode_token(query: str, position: Position) -> str:
    """The token of the page that begins after `position`.

    `query`: what else belongs to the question, such as `query_text` gives it; the token is good for no other.
    """
    values = [value.isoformat() if isinstance(value, datetime) else value for value in position]
    content = json.dumps([_VERSION, _digest(query), values], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def decode_token(query: str, order: Sequence[SortKey], token: str) -> Position:
    """The position that a token of ours stands for. Raises InvalidArgument for any other."""
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        content = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        version, digest, values = content
        if not isinstance(content, list) or version != _VERSION:
            raise ValueError("another version")
    except (ValueError, TypeError, RecursionError):
        raise _not_ours() from None
    if digest != _digest(query):
        raise InvalidArgument(
            "page_token: the token is one of another question; ask with the filters and the order "
            "that it was given for, or begin again without one"
        )
    try:
        return tuple(_value(key.key, value) for key, value in zip(order, values, strict=True))
    except (InvalidArgument, ValueError, TypeError):
        raise _not_ours() from None


def query_text(instance: str, conditions: Sequence[OperationFilter], order: Sequence[SortKey]) -> str:
    """The question that a token belongs to. Conditions may be given in any order."""
    return json.dumps([instance, sorted(map(str, conditions)), order])


def _value(key: str, raw: object) -> SortValue:
    if raw is None and key in OPTIONAL:
        return None
    value = checked_value(key, KEYS[key], raw)
    if not isinstance(value, str | datetime | Stage):
        raise TypeError(f"{key} cannot be sorted by")
    return value


def _not_ours() -> InvalidArgument:
    return InvalidArgument("page_token: not a token of this server; begin again without one")


def _digest(query: str) -> str:
    return hashlib.sha256(query.encode()).hexdigest()[:16]
