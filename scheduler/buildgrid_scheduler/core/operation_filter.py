"""The filter language of ListOperations: `key op value`, joined with `&`. Pure.

    stage=EXECUTING & queued_time>=2030-01-01T08:00:00Z & command="make && make install"

All filters must hold. A value ends at the next `&`, and blanks around it do not count. One that holds `&`,
that begins with `"` or with one of `= ! < >`, or whose outer blanks do count is put in double quotes, in
which `\\"` is a quote and `\\\\` a backslash. `docs/list-operations.md` has the keys.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import NamedTuple

from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.core.job_state import Stage

OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
MAX_FILTERS = 64
"""of one request, sort keys included: each is a piece of a statement"""


class Kind(Enum):
    """What the values of a key are, and how they compare."""

    TEXT = "text, which compares by code point"
    DIGEST = "HASH/SIZE, which compares as text"
    TIME = "ISO 8601 time with a time zone"
    STAGE = "stage, from UNKNOWN to COMPLETED"
    PROPERTY = "KEY:VALUE"
    ORDER = "key, then (asc) or (desc)"


KEYS = {
    "stage": Kind.STAGE,
    "name": Kind.TEXT,
    "command": Kind.TEXT,
    "platform": Kind.PROPERTY,
    "action_digest": Kind.DIGEST,
    "invocation_id": Kind.TEXT,
    "correlated_invocations_id": Kind.TEXT,
    "tool_name": Kind.TEXT,
    "tool_version": Kind.TEXT,
    "action_mnemonic": Kind.TEXT,
    "target_id": Kind.TEXT,
    "configuration_id": Kind.TEXT,
    "queued_time": Kind.TIME,
    "start_time": Kind.TIME,
    "completed_time": Kind.TIME,
    "client_workflow": Kind.TEXT,
    "client_actor": Kind.TEXT,
    "client_subject": Kind.TEXT,
    "sort_order": Kind.ORDER,
}
_OPERATORS_OF: dict[Kind, tuple[str, ...]] = {Kind.PROPERTY: ("=", "!="), Kind.ORDER: ("=",)}
OPTIONAL = frozenset(
    {
        "start_time",
        "completed_time",
        *("invocation_id", "correlated_invocations_id", "tool_name", "tool_version"),
        *("action_mnemonic", "target_id", "configuration_id"),
        *("client_workflow", "client_actor", "client_subject"),
    }
)
"""keys of which an operation may have no value: then it matches `!=` and nothing else"""
SORTABLE = tuple(key for key, kind in KEYS.items() if kind not in _OPERATORS_OF)


class Property(NamedTuple):
    """A platform property that a job requires of its bot."""

    key: str
    value: str


class SortKey(NamedTuple):
    """One key of an order."""

    key: str
    descending: bool = False


FilterValue = str | datetime | Stage | Property | SortKey


@dataclass(frozen=True, slots=True)
class OperationFilter:
    """One condition. There are none that make no sense: the constructor raises InvalidArgument.

    `parameter` is one of KEYS, `operator` one of OPERATORS. `value` may be given as text, as in a filter
    without its quotes. It is kept as what it stands for: times as aware UTC, a Stage, a Property, a SortKey.
    """

    parameter: str
    operator: str
    value: FilterValue

    def __post_init__(self) -> None:
        kind = KEYS.get(self.parameter)
        if kind is None:
            raise InvalidArgument(f"filter: {_unknown('key', self.parameter, KEYS)}")
        operators = _OPERATORS_OF.get(kind, OPERATORS)
        if self.operator not in operators:
            raise InvalidArgument(
                f"filter: {self.parameter}: {_shown(self.operator)} is not one of its operators, which are: "
                + " ".join(operators)
            )
        object.__setattr__(self, "value", checked_value(self.parameter, kind, self.value))

    def __str__(self) -> str:
        """In the filter language; `parse_filters` is the inverse."""
        return f"{self.parameter}{self.operator}{_quoted(_text_of(self.value))}"

    @staticmethod
    def parse_filters(text: str) -> "list[OperationFilter]":
        """The filters of a text; [] for one that is blank.

        Raises InvalidArgument, naming the key and what it may be.
        """
        filters: list[OperationFilter] = []
        position = 0 if text.strip() else len(text)
        while position < len(text):
            found, position = _parse_one(text, position)
            filters.append(found)
            if len(filters) > MAX_FILTERS:
                raise InvalidArgument(f"filter: more than {MAX_FILTERS} conditions; ask for less at once")
            if position == len(text) - 1:
                raise InvalidArgument("filter: nothing follows the last '&'; remove it, or quote the value")
            position += 1
        return filters


parse_filters = OperationFilter.parse_filters


def format_filters(filters: Iterable[OperationFilter]) -> str:
    """The text that `parse_filters` turns into these filters."""
    return "&".join(map(str, filters))


def checked_value(parameter: str, kind: Kind, value: object) -> FilterValue:
    """A value of this kind, from text or as it is. Raises InvalidArgument, naming the parameter."""
    if isinstance(value, str):
        _check_storable(parameter, value)
        return _from_text(parameter, kind, value)
    if kind is Kind.TIME and isinstance(value, datetime):
        return _utc(parameter, value)
    if kind is Kind.STAGE and isinstance(value, int) and not isinstance(value, bool):
        return _stage(parameter, str(value), value)
    if kind is Kind.PROPERTY and isinstance(value, Property) and ":" not in value.key:
        return checked_value(parameter, kind, f"{value.key}:{value.value}")
    if kind is Kind.ORDER and isinstance(value, SortKey):
        return _sort_key(parameter, value.key, descending=value.descending)
    raise InvalidArgument(f"filter: {parameter}: {_shown(value)}: the value must be: {kind.value}")


# --- values


_DIGEST = re.compile(r"[0-9a-f]+/[0-9]+")
_DIRECTIONS = {"": False, "(asc)": False, "(desc)": True}


def _from_text(parameter: str, kind: Kind, text: str) -> FilterValue:
    match kind:
        case Kind.TEXT:
            return text
        case Kind.DIGEST:
            if not _DIGEST.fullmatch(text):
                raise InvalidArgument(f"filter: {parameter}: {_shown(text)} is no digest, which is HASH/SIZE")
            return text
        case Kind.TIME:
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                raise InvalidArgument(
                    f"filter: {parameter}: {_shown(text)} is no ISO 8601 time; "
                    "write it as in 2030-01-31T12:00:00Z"
                ) from None
            return _utc(parameter, moment)
        case Kind.STAGE:
            return _stage(parameter, text, Stage.__members__.get(text.upper()))
        case Kind.PROPERTY:
            key, colon, value = text.partition(":")
            if not key or not colon:
                raise InvalidArgument(
                    f"filter: {parameter}: {_shown(text)} is no property; "
                    "write its key and value as in OSFamily:linux"
                )
            return Property(key, value)
        case Kind.ORDER:
            key, bracket, rest = text.partition("(")
            descending = _DIRECTIONS.get(bracket + rest)
            if descending is None:
                raise InvalidArgument(
                    f"filter: {parameter}: {_shown(text)} is no order; "
                    "write a key, then (asc) or (desc), as in queued_time(desc)"
                )
            return _sort_key(parameter, key.strip(), descending=descending)


def _utc(parameter: str, moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise InvalidArgument(
            f"filter: {parameter}: {moment.isoformat()} has no time zone; "
            "append Z for UTC, or an offset as in +01:00"
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidArgument(
            f"filter: {parameter}: {moment.isoformat()} is beyond the years 1 to 9999"
        ) from None


def _stage(parameter: str, shown: str, number: int | None) -> Stage:
    try:
        return Stage(-1 if number is None else number)
    except ValueError:
        names = [stage.name for stage in Stage]
        raise InvalidArgument(f"filter: {parameter}: {_unknown('stage', shown, names)}") from None


def _sort_key(parameter: str, key: str, *, descending: bool) -> SortKey:
    if key not in SORTABLE:
        raise InvalidArgument(f"filter: {parameter}: {_unknown('key to sort by', key, SORTABLE)}")
    return SortKey(key, descending)


def _check_storable(parameter: str, text: str) -> None:
    """What PostgreSQL cannot hold, nothing can be compared with."""
    if "\0" in text:
        raise InvalidArgument(f"filter: {parameter}: {_shown(text)}: a value holds no NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"filter: {parameter}: {_shown(text)}: a value is Unicode text") from None


def _text_of(value: FilterValue) -> str:
    match value:
        case str():
            return value
        case datetime():
            return value.isoformat()
        case Stage():
            return value.name
        case Property():
            return f"{value.key}:{value.value}"
        case SortKey():
            return f"{value.key}({'desc' if value.descending else 'asc'})"


# --- grammar


_OPERATOR_CHARACTERS = "=!<>"
_HEAD = re.compile(r'\s*(?P<key>[^\s=!<>&"]+)\s*(?P<operator>[=!<>]+)\s*')
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"\s*(?=&|\Z)')
_ESCAPED = re.compile(r'\\(["\\])')


def _parse_one(text: str, position: int) -> tuple[OperationFilter, int]:
    """The filter that begins there, and where it ends: at an `&`, or at the end of the text."""
    head = _HEAD.match(text, position)
    end = text.find("&", position)
    end = len(text) if end < 0 else end
    if head is None:
        raise InvalidArgument(
            f"filter: {_shown(text[position:end].strip())} is not of the form KEY OPERATOR VALUE; "
            "conditions are joined with one '&', and a value that holds '&' is put in double quotes"
        )
    key, operator = head["key"], head["operator"]
    if operator not in OPERATORS:
        raise InvalidArgument(
            f"filter: {_shown(key)}: {_shown(operator)} is not an operator; there are {' '.join(OPERATORS)}; "
            f"put a value that begins with one of {' '.join(_OPERATOR_CHARACTERS)} in double quotes"
        )
    start = head.end()
    if text.startswith('"', start):
        quoted = _QUOTED.match(text, start)
        if quoted is None:
            raise InvalidArgument(
                f"filter: {_shown(key)}: {_shown(text[start:])}: the quoted value does not end before an '&' "
                'or the end of the text; inside of it, write \\" for a quote and \\\\ for a backslash'
            )
        return OperationFilter(key, operator, _ESCAPED.sub(r"\1", quoted[1])), quoted.end()
    return OperationFilter(key, operator, text[start:end].strip()), end


def _quoted(value: str) -> str:
    plain = "&" not in value and not value.startswith(('"', *_OPERATOR_CHARACTERS)) and value.strip() == value
    if plain:
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# --- words for errors


def _shown(value: object) -> str:
    """For a message: a command line may be long."""
    shown = ascii(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _unknown(what: str, word: str, known: Iterable[str]) -> str:
    known = list(known)
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word[:80].lower(), by_lower, n=1)
    guess = f" Did you mean {by_lower[near[0]]}?" if near else ""
    return f"{_shown(word)} is no {what}.{guess} Known: {', '.join(known)}"
