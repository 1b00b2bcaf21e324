"""Right requests with something wrong: a field, or a byte."""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from tests.integration.fuzz.messages import MESSAGE, add, any_value, is_map, is_repeated, put, unknown_fields

_DEEP_GROUPS = b"\x0b" * 200
_ENDLESS = b"\xff" * 12
_PIECES = [b"\0", b"\xff", b"\x08", b"\x0a\xff\xff\xff\xff\x0f", b"\x12\x02\xc3\x28", _DEEP_GROUPS, _ENDLESS]


@st.composite
def mutated(draw: st.DrawFn, request: Message) -> Any:
    """A copy of the request in which one to three fields were dropped, doubled, replaced or swapped."""
    message: Any = type(request)()
    message.CopyFrom(request)
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        _mutate(draw, message)
    return message


def _mutate(draw: st.DrawFn, root: Any) -> None:
    message = root
    while True:
        fields = [field for field in message.DESCRIPTOR.fields if not is_map(field)]
        if not fields:
            return
        field = draw(st.sampled_from(fields))
        inner = _inner(draw, message, field)
        if inner is None or not draw(st.booleans()):
            break
        message = inner
    _change(draw, message, field)


def _inner(draw: st.DrawFn, message: Any, field: FieldDescriptor) -> Any:
    """A message that the field holds, if it does."""
    if field.type != MESSAGE:
        return None
    if not is_repeated(field):
        return getattr(message, field.name) if message.HasField(field.name) else None
    held = getattr(message, field.name)
    return held[draw(st.integers(0, len(held) - 1))] if held else None


def _change(draw: st.DrawFn, message: Any, field: FieldDescriptor) -> None:
    held = getattr(message, field.name)
    how = draw(st.sampled_from(["replace", "replace", "drop", "double", "swap"]))
    if how == "drop":
        message.ClearField(field.name)
    elif how == "swap":
        _swap(message, field)
    elif not is_repeated(field):
        put(message, field, draw(any_value(field)))
    elif how == "double" and len(held) < 1000:
        for value in list(held):
            add(held, field, value)
    else:
        add(held, field, draw(any_value(field)))


def _swap(message: Any, field: FieldDescriptor) -> None:
    """Its value with that of another field of the same type."""
    for other in message.DESCRIPTOR.fields:
        same = other.type == field.type and other.message_type is field.message_type
        if same and other.name != field.name and not is_repeated(other) and not is_repeated(field):
            if field.type == MESSAGE:
                return
            mine, others = getattr(message, field.name), getattr(message, other.name)
            setattr(message, field.name, others if field.enum_type is other.enum_type else mine)
            setattr(message, other.name, mine if field.enum_type is other.enum_type else others)
            return


@st.composite
def mutated_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes with one to three changed, cut out, put in, or repeated."""
    changed = bytearray(data)
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        place = draw(st.integers(0, len(changed)))
        rest = min(len(changed) - place, 40)
        match draw(st.sampled_from(["flip", "cut", "put", "repeat", "end", "unknown"])):
            case "flip" if rest:
                changed[place] ^= draw(st.integers(1, 255))
            case "cut":
                del changed[place : place + draw(st.integers(0, rest))]
            case "repeat":
                changed[place:place] = changed[place : place + draw(st.integers(0, rest))]
            case "end":
                del changed[place:]
            case "unknown":
                changed += draw(unknown_fields)
            case _:
                changed[place:place] = draw(st.one_of(st.sampled_from(_PIECES), st.binary(max_size=8)))
    return bytes(changed)
