"""The order of a list, and the tokens of its pages."""

import base64
import json
from datetime import UTC, datetime

import pytest
from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.operation_filter import MAX_FILTERS, OperationFilter, SortKey, parse_filters
from buildgrid_scheduler.core.operation_order import decode_token, encode_token, query_text, split_order
from hypothesis import given
from hypothesis import strategies as st

ORDER = (SortKey("stage"), SortKey("start_time", True), SortKey("queued_time"), SortKey("name"))
POSITION = (Stage.QUEUED, None, datetime(2030, 1, 31, 12, 0, 0, 123456, tzinfo=UTC), "näme")
QUERY = query_text("main", parse_filters("tool_name=bazel"), ORDER)


def order(text: str) -> tuple[SortKey, ...]:
    return split_order(parse_filters(text))[1]


def packed(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def content() -> list[object]:
    token = encode_token(QUERY, POSITION)
    assert "=" not in token
    unpacked: list[object] = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    return unpacked


def test_the_order_is_by_queued_time_then_name_when_nothing_is_said() -> None:
    conditions, keys = split_order(parse_filters("stage=QUEUED"))
    assert conditions == [OperationFilter("stage", "=", Stage.QUEUED)]
    assert keys == (SortKey("queued_time"), SortKey("name"))


def test_each_order_ends_with_the_name_so_that_it_is_total() -> None:
    assert order("sort_order=stage(desc)&name!=a&sort_order=tool_name") == (
        SortKey("stage", True),
        SortKey("tool_name"),
        SortKey("name"),
    )
    assert order("sort_order=stage&sort_order=name(desc)&sort_order=tool_name") == (
        SortKey("stage"),
        SortKey("name", True),
    )


def test_a_key_that_is_named_twice_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="queued_time is named twice"):
        order("sort_order=queued_time&sort_order=queued_time(desc)")


def test_a_program_may_not_give_more_filters_than_a_text_may() -> None:
    with pytest.raises(InvalidArgument, match=f"more than {MAX_FILTERS}"):
        split_order([OperationFilter("name", "!=", "a")] * (MAX_FILTERS + 1))


def test_a_token_is_read_as_the_position_that_it_was_made_of() -> None:
    assert decode_token(QUERY, ORDER, encode_token(QUERY, POSITION)) == POSITION


def test_the_order_in_which_conditions_are_given_does_not_matter_to_a_token() -> None:
    one, two = (
        query_text("a", parse_filters(text), ORDER) for text in ("name=a&stage>QUEUED", "stage>QUEUED&name=a")
    )
    assert one == two


@pytest.mark.parametrize(
    "other",
    [
        query_text("other", parse_filters("tool_name=bazel"), ORDER),
        query_text("main", parse_filters("tool_name=recc"), ORDER),
        query_text("main", [], ORDER),
        query_text("main", parse_filters("tool_name=bazel"), (*ORDER[:-1], SortKey("name", True))),
    ],
)
def test_a_token_is_refused_for_another_question(other: str) -> None:
    with pytest.raises(InvalidArgument, match=r"page_token.*another question"):
        decode_token(other, ORDER, encode_token(QUERY, POSITION))


@pytest.mark.parametrize(
    "position",
    [
        [],
        [2, None, "2030-01-31T12:00:00Z"],
        [2, None, "2030-01-31T12:00:00Z", "a", "b"],
        [2, None, "2030-01-31T12:00:00", "a"],
        [2, None, "soon", "a"],
        [2, None, None, "a"],
        [2, None, "2030-01-31T12:00:00Z", None],
        [2, None, "2030-01-31T12:00:00Z", 7],
        [2, None, "2030-01-31T12:00:00Z", "a\0"],
        [2, None, "2030-01-31T12:00:00Z", "a\ud800"],
        [2, None, "2030-01-31T12:00:00Z", ["a"]],
        [9, None, "2030-01-31T12:00:00Z", "a"],
        [2.0, None, "2030-01-31T12:00:00Z", "a"],
        [True, None, "2030-01-31T12:00:00Z", "a"],
        {"stage": 2},
        None,
    ],
)
def test_a_token_with_another_position_is_refused(position: object) -> None:
    version, digest, _ = content()
    with pytest.raises(InvalidArgument, match="page_token: not a token of this server"):
        decode_token(QUERY, ORDER, packed([version, digest, position]))


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "ünicode",
        "####",
        packed(None),
        packed(7),
        packed("abc"),
        packed({"a": 1, "b": 2, "c": 3}),
        packed([99, "digest", []]),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        base64.urlsafe_b64encode(b"[1,2," + b"9" * 10_000 + b"]").decode(),
    ],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match="page_token"):
        decode_token(QUERY, ORDER, token)


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_of_any_text_comes_an_error(token: str) -> None:
    with pytest.raises(InvalidArgument, match="page_token"):
        decode_token(QUERY, ORDER, token)


@given(st.data())
def test_a_tampered_token_is_refused_or_is_another_position(data: st.DataObject) -> None:
    token = encode_token(QUERY, POSITION)
    at = data.draw(st.integers(0, len(token) - 1))
    changed = token[:at] + data.draw(st.sampled_from("abcXYZ019-_=")) + token[at + 1 :]
    try:
        position = decode_token(QUERY, ORDER, changed)
    except InvalidArgument:
        return
    assert len(position) == len(ORDER)
    assert isinstance(position[3], str)
