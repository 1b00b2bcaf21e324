"""Messages at random, after their descriptors: typed right, with values that are not.

A field is filled by what its name and type mean to our services, so that much of what is sent gets past the
first check.
"""

from functools import cache
from typing import Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.integration.fuzz import values
from tests.integration.fuzz.content import DIGESTS

Field: TypeAlias = Any
"""a FieldDescriptor; the stubs do not know which of its two classes it is"""
DEEPEST = 5
MESSAGE, STRING, BYTES, ENUM = (
    FieldDescriptor.TYPE_MESSAGE,
    FieldDescriptor.TYPE_STRING,
    FieldDescriptor.TYPE_BYTES,
    FieldDescriptor.TYPE_ENUM,
)
_RANGES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}
_SECONDS = [0, 1, -1, 5, 253402300799, 253402300800, -62135596801, 315576000001, -(2**63), 2**63 - 1]
_NANOS = [0, 1, -1, 999_999_999, 1_000_000_000, -(2**31), 2**31 - 1]


@st.composite
def messages(draw: st.DrawFn, kind: type[Message], depth: int = 0) -> Any:
    """A message of this class. Now and then with unknown fields."""
    message: Any = kind()
    for field in kind.DESCRIPTOR.fields:
        if not draw(_present(depth)):
            continue
        fill(draw, message, field, depth)
    if depth == 0 and draw(st.integers(0, 15)) == 0:
        message.MergeFromString(draw(unknown_fields))
    return message


unknown_fields = st.sampled_from(
    [
        b"\xfa\x3f\x05hello",
        b"\xf8\x3f\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xf9\x3f12345678",
        b"\xfb\x3f\xfc\x3f",
        b"\xfb\x3f" * 50 + b"\xfc\x3f" * 50,
    ]
)


def fill(draw: st.DrawFn, message: Any, field: Field, depth: int) -> None:
    """Gives the field a value, or some if it is repeated."""
    if not is_repeated(field):
        put(message, field, draw(_value(field, depth)))
        return
    if is_map(field):
        return
    few = draw(st.sampled_from([0, 1, 1, 2, 3]))
    held = getattr(message, field.name)
    for _ in range(few):
        add(held, field, draw(_value(field, depth)))
    if few and depth < 2 and draw(st.integers(0, 30)) == 0:
        for _ in range(300):
            add(held, field, held[0])


def is_repeated(field: Field) -> bool:
    """Maps are, too."""
    return bool(field.is_repeated)


def is_map(field: Field) -> bool:
    """None of our messages has one that means anything."""
    return field.type == MESSAGE and bool(field.message_type.GetOptions().map_entry)


def put(message: Any, field: Field, value: Any) -> None:
    """Sets a field that is not repeated."""
    if field.type == MESSAGE:
        getattr(message, field.name).CopyFrom(value)
    else:
        setattr(message, field.name, value)


def add(held: Any, field: Field, value: Any) -> None:
    """Appends to a repeated field."""
    if field.type == MESSAGE:
        held.add().CopyFrom(value)
    else:
        held.append(value)


def any_value(field: Field, depth: int = 0) -> SearchStrategy[Any]:
    """A value for the field; one element where it is repeated."""
    return _value(field, depth)


@cache
def _present(depth: int) -> SearchStrategy[bool]:
    return st.just(False) if depth > DEEPEST else st.sampled_from([True, True, False][depth // 3 :])


@cache
def _value(field: Field, depth: int) -> SearchStrategy[Any]:
    if field.type == MESSAGE:
        return _message(field.message_type, depth)
    if field.type == STRING:
        return _string(field)
    if field.type == BYTES:
        return values.blobs
    if field.type == ENUM:
        return st.one_of(
            st.sampled_from([value.number for value in field.enum_type.values]),
            st.sampled_from([-1, 7, 2**31 - 1, -(2**31)]),
        )
    if field.type in _RANGES:
        lowest, highest = _RANGES[field.type]
        special = [n for n in (0, 1, 2, -1, 1000, lowest, highest) if lowest <= n <= highest]
        return st.one_of(st.sampled_from(special), st.integers(lowest, highest))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    return st.floats(width=32)


def _message(descriptor: Any, depth: int) -> SearchStrategy[Any]:
    kind = GetMessageClass(descriptor)
    match descriptor.full_name:
        case "build.bazel.remote.execution.v2.Digest":
            return st.one_of(st.sampled_from(DIGESTS), st.sampled_from(DIGESTS), _digests(kind))
        case "google.protobuf.Any":
            return st.builds(kind, type_url=values.type_urls, value=values.blobs)
        case "google.protobuf.Timestamp" | "google.protobuf.Duration":
            return st.builds(kind, seconds=st.sampled_from(_SECONDS), nanos=st.sampled_from(_NANOS))
    return messages(kind, depth + 1)


def _digests(kind: type[Message]) -> SearchStrategy[Any]:
    return st.builds(kind, hash=values.hashes, size_bytes=values.sizes)


def _string(field: Field) -> SearchStrategy[str]:
    match field.name:
        case "instance_name" | "parent":
            return values.instances
        case "resource_name":
            return values.resource_names()
        case "name" if field.containing_type.name == "ListOperationsRequest":
            return values.instances
        case "name" if field.containing_type.name == "Property":
            return values.property_names
        case "name" | "id" | "bot_id":
            return values.names
        case "hash":
            return values.hashes
        case "filter":
            return values.filters
        case "key":
            return values.property_names
        case "value":
            return values.property_values
    return values.strange_strings
