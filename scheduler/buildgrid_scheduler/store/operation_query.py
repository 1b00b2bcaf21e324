"""The SQL of a list of operations. Its text is made of the pieces below; every value is bound.

Which tables are read first decides what a list costs, and is decided here, not left to estimates:

- Without completed operations the rows of `queue` and `leases` lead: one for each unfinished job.
- What has one name, action or invocation, or a client with few operations, is found by that (a MATERIALIZED
  part), then put in order.
- Everything else is left to the planner, which mostly walks `ix_jobs_queued_at` until the page is full.

Text is compared and sorted in the collation "C": by code point, whatever that of the database is.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.operation_filter import KEYS, OPTIONAL, Kind, OperationFilter, Property, SortKey
from buildgrid_scheduler.core.operation_order import Position

FEW = 10_000
"""operations of one client, which are better read all than looked for among those of others"""

# For the transaction: plans for these very values; costs of a disk that needs not spin; and an end to what
# finds little in much.
SETTINGS = """
SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true),
       set_config('random_page_cost', '1.1', true), set_config('statement_timeout', %(timeout)s, true)
"""

_UNFINISHED = """(
    SELECT job_name, queued_at, NULL::timestamptz AS told_at, NULL::timestamptz AS started_at FROM queue
    WHERE instance_name = %(instance)s
    UNION ALL
    SELECT job_name, queued_at, told_at, started_at FROM leases
    WHERE instance_name = %(instance)s AND state <> 5) l
  JOIN jobs j ON j.name = l.job_name JOIN operations o ON o.job_name = j.name AND NOT o.cancelled"""
_ALL = """jobs j JOIN operations o ON o.job_name = j.name LEFT JOIN leases l ON l.job_name = j.name"""
_METADATA = " LEFT JOIN request_metadata m ON m.hash = o.request_metadata_hash"
_IDENTITY = " LEFT JOIN client_identities c ON c.id = o.client_identity_id"

_COLUMNS = {
    "name": "o.name",
    "command": "j.command",
    "action_digest": "j.action_digest",
    "queued_time": "j.queued_at",
    "start_time": "coalesce(j.worker_start_at, l.started_at)",
    "completed_time": "j.completed_at",
    "invocation_id": "m.invocation_id",
    "correlated_invocations_id": "m.correlated_invocations_id",
    "tool_name": "m.tool_name",
    "tool_version": "m.tool_version",
    "action_mnemonic": "m.action_mnemonic",
    "target_id": "m.target_id",
    "configuration_id": "m.configuration_id",
    "client_workflow": "c.workflow",
    "client_actor": "c.actor",
    "client_subject": "c.subject",
}
_SELECTIVE = frozenset({"name", "action_digest", "invocation_id", "correlated_invocations_id"})
"""keys with an index, of which one value belongs to few operations"""
_DONE = "o.cancelled OR j.completed_at IS NOT NULL"
_STAGE_OF_UNFINISHED = "CASE WHEN l.told_at IS NOT NULL THEN 3 ELSE 2 END"
_STAGE_OF_ALL = f"CASE WHEN {_DONE} THEN 4 ELSE {_STAGE_OF_UNFINISHED} END"
_UNFINISHED_STAGES = frozenset({Stage.QUEUED, Stage.EXECUTING})
_STAGES = _UNFINISHED_STAGES | {Stage.COMPLETED}
"""that operations have here"""

_HAVE_FEW = """
SELECT count(*) <= %(few)s AS few FROM (
  SELECT 1 FROM operations WHERE client_identity_id = ANY(%(identities)s::int8[]) LIMIT %(few)s + 1) t
"""
_HOLDS: dict[str, Callable[[int, int], bool]] = {
    "=": int.__eq__,
    "!=": int.__ne__,
    "<": int.__lt__,
    "<=": int.__le__,
    ">": int.__gt__,
    ">=": int.__ge__,
}
_IDENTITY_KEYS = frozenset(key for key, column in _COLUMNS.items() if column.startswith("c."))


@dataclass(frozen=True, slots=True)
class Query:
    """A statement and what is bound to it."""

    text: str
    values: dict[str, object]


@dataclass(slots=True)
class _Binding:
    """Collects values; `_Binding()(value)` is the placeholder."""

    values: dict[str, object] = field(default_factory=dict)

    def __call__(self, value: object) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f"%({name})s"


class Split(NamedTuple):
    """Conditions, by how they are met."""

    identities: list[OperationFilter]
    """of `=` on the client's identity: met by looking the identities up first, see `identity_query`"""
    others: list[OperationFilter]


def split_conditions(conditions: Sequence[OperationFilter]) -> Split:
    """Those that `identity_query` meets, and those that are `page_query`'s."""
    identities = [f for f in conditions if f.parameter in _IDENTITY_KEYS and f.operator == "="]
    return Split(identities, [f for f in conditions if f not in identities])


def identity_query(conditions: Sequence[OperationFilter], owner: tuple[str, str, str, str] | None) -> Query:
    """The ids of the identities that meet conditions on them, and are the `owner`: all in all few.

    `owner`: (instance, workflow, actor, subject).
    """
    bind = _Binding()
    where = [_condition(f, bind) for f in conditions]
    if owner is not None:
        columns = ("instance", "workflow", "actor", "subject")
        where += [f"c.{column} = {bind(value)}" for column, value in zip(columns, owner, strict=True)]
    return Query(f"SELECT c.id FROM client_identities c WHERE {' AND '.join(where)}", bind.values)  # noqa: S608


def few_query(identities: Sequence[int]) -> Query:
    """Whether these identities have at most FEW operations, all together."""
    return Query(_HAVE_FEW, {"identities": list(identities), "few": FEW})


def page_query(
    instance: str,
    conditions: Sequence[OperationFilter],
    order: Sequence[SortKey],
    *,
    finished: bool,
    identities: Sequence[int] | None = None,
    few: bool = False,
    after: Position | None = None,
    limit: int | None = None,
) -> Query:
    """The operations that meet all conditions, in this order, behind `after`.

    Rows: the name, the bytes of its response, then one value for each key of the order. `finished`: completed
    ones, too, unless a condition is against it. `identities`: only of clients with these ids, who have
    `few` operations or not, see `few_query`.
    """
    bind = _Binding({"instance": instance})
    stages = _stages(conditions, _STAGES if finished else _UNFINISHED_STAGES)
    source = _Source(Stage.COMPLETED in stages)
    where = [_condition(f, bind) for f in conditions if f.parameter != "stage"]
    where += source.conditions(stages)
    if identities is not None:
        where.append(f"o.client_identity_id = ANY({bind(list(identities))}::int8[])")
    one = any(f.parameter in _SELECTIVE and f.operator == "=" for f in conditions)
    selective = source.finished and (one or few)
    keys = {f.parameter for f in conditions} | {key.key for key in order}
    columns = "".join(f", {source.sortable(key.key)} AS k{n}" for n, key in enumerate(order))
    text = f"""
WITH found AS {"" if selective else "NOT "}MATERIALIZED (
  SELECT o.name, coalesce(octet_length(j.response), 0) AS bytes{columns}
  FROM {source.tables(keys)}
  WHERE {" AND ".join(where) or "true"}
)
SELECT * FROM found WHERE {_behind(order, after, bind) if after is not None else "true"}
ORDER BY {", ".join(_direction(n, key) for n, key in enumerate(order))}
LIMIT {bind(limit)}
"""  # noqa: S608 - the pieces are constants of this file, and placeholders
    return Query(text, bind.values)


class _Source:
    """Where operations come from: all of them, or those that are not completed."""

    def __init__(self, finished: bool) -> None:
        self.finished = finished
        self.stage = _STAGE_OF_ALL if finished else _STAGE_OF_UNFINISHED

    def tables(self, keys: set[str]) -> str:
        """The joins that columns of these keys need."""
        used = {column.partition(".")[0] for key, column in _COLUMNS.items() if key in keys}
        tables = _ALL if self.finished else _UNFINISHED
        return tables + (_METADATA if "m" in used else "") + (_IDENTITY if "c" in used else "")

    def conditions(self, stages: frozenset[Stage]) -> list[str]:
        """What limits these tables to the instance and to these stages, in words that statistics know."""
        instance = ["j.instance_name = %(instance)s"] if self.finished else []
        unfinished = stages & _UNFINISHED_STAGES
        if not stages:
            return ["false"]
        if unfinished == _UNFINISHED_STAGES:
            return instance
        parts = [_DONE] if self.finished else []
        parts += [f"l.told_at IS {'NOT ' if stage is Stage.EXECUTING else ''}NULL" for stage in unfinished]
        return [*instance, f"({' OR '.join(parts)})"]

    def sortable(self, key: str) -> str:
        """A key as a column to sort by."""
        if key == "stage":
            return self.stage
        if key == "queued_time" and not self.finished:
            return "l.queued_at"  # the same, but the narrow rows can be put in order before they are joined
        return _comparable(key)


def _comparable(key: str) -> str:
    return _COLUMNS[key] + (' COLLATE "C"' if KEYS[key] in (Kind.TEXT, Kind.DIGEST) else "")


def _condition(condition: OperationFilter, bind: _Binding) -> str:
    key, operator, value = condition.parameter, condition.operator, condition.value
    if isinstance(value, Property):
        held = f"j.platform_requirements @> {bind(json.dumps({value.key: [value.value]}))}::jsonb"
        return held if operator == "=" else f"NOT {held}"
    if operator == "=":
        return f"{_COLUMNS[key]} = {bind(value)}"
    if operator == "!=":
        return f"{_COLUMNS[key]} IS DISTINCT FROM {bind(value)}"
    return f"{_comparable(key)} {operator} {bind(value)}"


def _stages(conditions: Sequence[OperationFilter], possible: frozenset[Stage]) -> frozenset[Stage]:
    return frozenset(
        stage
        for stage in possible
        if all(_HOLDS[f.operator](stage, f.value) for f in conditions if isinstance(f.value, Stage))
    )


def _behind(order: Sequence[SortKey], position: Position, bind: _Binding) -> str:
    """Whether a row comes after a position: equal in the first so many keys, and later in the next."""
    equal: list[str] = []
    cases: list[str] = []
    placeholders = [None if value is None else bind(value) for value in position]
    for n, (key, placeholder) in enumerate(zip(order, placeholders, strict=True)):
        if placeholder is None:
            equal.append(f"k{n} IS NULL")  # and nothing comes later
            continue
        later = f"k{n} {'<' if key.descending else '>'} {placeholder}"
        cases.append(" AND ".join([*equal, f"({later} OR k{n} IS NULL)" if key.key in OPTIONAL else later]))
        equal.append(f"k{n} = {placeholder}")
    behind = f"({' OR '.join(cases)})"
    if order[0].key in OPTIONAL:
        return behind
    # The same once more, in the form that an index understands.
    return f"k0 {'<=' if order[0].descending else '>='} {placeholders[0]} AND {behind}"


def _direction(n: int, key: SortKey) -> str:
    direction = "DESC" if key.descending else "ASC"
    return f"k{n} {direction} NULLS LAST" if key.key in OPTIONAL else f"k{n} {direction}"
