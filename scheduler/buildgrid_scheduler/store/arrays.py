"""Arrays as the hot statements take them: in PostgreSQL's binary form, by the type that the statement says.

Each of these statements is sent for a whole batch, with a dozen arrays of a few values. psycopg looks at the
values of a list to find out what array it is, which takes ten times as long as to encode it; here the cast
behind the placeholder says so: `%s::text[]`, `%(name)s::int4[]`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from struct import Struct
from struct import error as StructError  # noqa: N812 - it is an exception
from typing import Any, cast

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

Encoder = Callable[[Sequence[Any]], bytes]

_HEADER = Struct(">iiIii")  # dimensions, whether there are NULLs, type of the elements, how many, first index
_EMPTY = Struct(">iiI")
_SIZE = Struct(">i")
_NULL = _SIZE.pack(-1)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PLACEHOLDER = re.compile(r"%(?:\((?P<name>\w+)\))?s(?:::(?P<type>\w+)\[\])?")


class EncodedArray(bytes):
    """An array as it is sent. A statement has to say its type: `%s::text[]`."""


class _EncodedArrayDumper(Dumper):
    format = Format.BINARY
    oid = 0  # whatever the statement says

    def dump(self, obj: EncodedArray) -> bytes:
        return obj


# Of all connections: the type is ours alone.
psycopg.adapters.register_dumper(EncodedArray, _EncodedArrayDumper)


def with_arrays(statement: str, parameters: Any) -> Any:
    """The parameters, with each list encoded whose type the statement says, and that is one of ENCODERS.

    Raises psycopg.DataError for a value that the type cannot hold.
    """
    if parameters is None:
        return None
    if isinstance(parameters, dict):
        encoders = _by_name(statement)
        return {
            name: encoder(value) if type(value) is list and (encoder := encoders.get(name)) else value
            for name, value in parameters.items()
        }
    return [
        encoder(value) if encoder is not None and type(value) is list else value
        for encoder, value in zip(_by_place(statement), parameters, strict=True)
    ]


@cache
def _by_place(statement: str) -> list[Encoder | None]:
    return [ENCODERS.get(found["type"]) for found in _PLACEHOLDER.finditer(statement)]


@cache
def _by_name(statement: str) -> dict[str, Encoder]:
    found = _PLACEHOLDER.finditer(statement)
    return {place["name"]: ENCODERS[place["type"]] for place in found if place["type"] in ENCODERS}


def _encoder(element_type: int, encode: Callable[[Any], bytes]) -> Encoder:
    """`element_type`: its OID in pg_type. `encode`: the size and the bytes of an element."""

    def encoded(values: Sequence[Any]) -> bytes:
        if not values:
            return EncodedArray(_EMPTY.pack(0, 0, element_type))
        header = _HEADER.pack(1, None in values, element_type, len(values), 1)
        try:
            return EncodedArray(
                header + b"".join([_NULL if value is None else encode(value) for value in values])
            )
        except StructError as error:
            raise psycopg.DataError(f"a number is out of range: {error}") from error

    return encoded


def _text(value: str) -> bytes:
    data = value.encode()
    if b"\0" in data:
        raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    return _SIZE.pack(len(data)) + data


def _bytea(value: bytes) -> bytes:
    return _SIZE.pack(len(value)) + value


def _fixed(form: str) -> Callable[[Any], bytes]:
    struct = Struct(form)
    size = struct.size - _SIZE.size
    return lambda value: struct.pack(size, value)


_int8 = _fixed(">iq")


def _timestamptz(value: datetime) -> bytes:
    return _int8((value - _EPOCH) // _MICROSECOND)


ENCODERS: Mapping[str, Encoder] = {
    "bool": _encoder(16, _fixed(">i?")),
    "bytea": _encoder(17, _bytea),
    "int8": _encoder(20, _int8),
    "int2": _encoder(21, _fixed(">ih")),
    "int4": _encoder(23, _fixed(">ii")),
    "text": _encoder(25, cast("Callable[[Any], bytes]", _text)),
    "timestamptz": _encoder(1184, _timestamptz),
}
"""By the name of the elements' type."""
