"""The filter language: what it says, what it refuses and in which words, and that nothing else goes wrong."""

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.operation_filter import (
    KEYS,
    MAX_FILTERS,
    OPERATORS,
    SORTABLE,
    Kind,
    OperationFilter,
    Property,
    SortKey,
    format_filters,
    parse_filters,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

NOON = datetime(2030, 1, 31, 12, tzinfo=UTC)
DIGEST = "ab12/34"


def only(text: str) -> OperationFilter:
    (found,) = parse_filters(text)
    return found


@pytest.mark.parametrize("blank", ["", "  ", "\n\t"])
def test_a_blank_text_filters_nothing(blank: str) -> None:
    assert parse_filters(blank) == []


def test_filters_are_joined_with_an_ampersand_and_blanks_around_the_parts_do_not_count() -> None:
    assert parse_filters(" stage = queued &name!=a-1\n& queued_time\t>=2030-01-31T12:00:00Z ") == [
        OperationFilter("stage", "=", Stage.QUEUED),
        OperationFilter("name", "!=", "a-1"),
        OperationFilter("queued_time", ">=", NOON),
    ]


def test_the_parser_is_also_a_function_of_the_class() -> None:
    assert OperationFilter.parse_filters("name=a") == parse_filters("name=a")


def test_what_the_manual_shows_can_be_asked() -> None:
    manual = Path(__file__).parents[3] / "docs" / "list-operations.md"
    shown = manual.read_text().split("```")[1].strip().splitlines()
    assert len(shown) > 3
    for line in shown:
        assert parse_filters(re.split(r" {2,}", line)[0]), line


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_longest_operator_is_meant(operator: str) -> None:
    assert only(f"tool_name{operator}bazel") == OperationFilter("tool_name", operator, "bazel")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("command=gcc -c a.c -o a.o", "gcc -c a.c -o a.o"),
        ('command=echo "hi" > x', 'echo "hi" > x'),
        ("command=a\\b", "a\\b"),
        ('command="make && make install"', "make && make install"),
        ('command="say \\"hi\\" \\\\ &"', 'say "hi" \\ &'),
        ('command=" outer blanks "  ', " outer blanks "),
        ('command="=x"', "=x"),
        ("command=", ""),
        ('command=""', ""),
        ("target_id=//a:b=c", "//a:b=c"),
        ("command=two\nlines", "two\nlines"),
    ],
)
def test_a_value_is_what_is_written_and_quotes_hold_what_would_end_it(text: str, value: str) -> None:
    assert only(text).value == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("stage=EXECUTING", Stage.EXECUTING),
        ("stage<completed", Stage.COMPLETED),
        ("stage!=Cache_Check", Stage.CACHE_CHECK),
        ("platform=OSFamily:linux", Property("OSFamily", "linux")),
        ("platform!=container-image:docker://a:1", Property("container-image", "docker://a:1")),
        ("platform=Pool:", Property("Pool", "")),
        (f"action_digest={DIGEST}", DIGEST),
        ("start_time>2030-01-31T13:00:00+01:00", NOON),
        ("completed_time<=2030-01-31T12:00:00.000001Z", NOON + timedelta(microseconds=1)),
        ("sort_order=queued_time", SortKey("queued_time")),
        ("sort_order=stage(asc)", SortKey("stage")),
        ("sort_order=client_subject (desc)", SortKey("client_subject", True)),
    ],
)
def test_values_become_what_they_stand_for(text: str, value: object) -> None:
    found = only(text).value
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("parameter", "given", "kept"),
    [
        ("stage", Stage.QUEUED, Stage.QUEUED),
        ("stage", 3, Stage.EXECUTING),
        ("queued_time", datetime(2030, 1, 31, 13, tzinfo=timezone(timedelta(hours=1))), NOON),
        ("queued_time", "2030-01-31T12:00:00Z", NOON),
        ("platform", Property("a", "b"), Property("a", "b")),
        ("sort_order", SortKey("name", True), SortKey("name", True)),
    ],
)
def test_a_program_may_give_values_as_they_are_or_as_text(
    parameter: str, given: object, kept: object
) -> None:
    assert OperationFilter(parameter, "=", given).value == kept  # type: ignore[arg-type]


def test_times_are_kept_in_utc() -> None:
    assert str(only("queued_time>2030-01-31T13:00:00+01:00")) == "queued_time>2030-01-31T12:00:00+00:00"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stag=QUEUED", ["'stag'", "Did you mean stage?", "correlated_invocations_id"]),
        ("Stage=QUEUED", ["'Stage'", "Did you mean stage?"]),
        ("weather=fine", ["'weather'", "Known: stage, name"]),
        ("stage=QUED", ["stage", "'QUED'", "Did you mean QUEUED?", "CACHE_CHECK"]),
        ("stage=", ["stage", "''", "COMPLETED"]),
        ("queued_time>2030-01-31T12:00:00", ["queued_time", "no time zone", "append Z"]),
        ("queued_time>2030-01-31", ["queued_time", "no time zone", "append Z"]),
        ("start_time>yesterday", ["start_time", "'yesterday'", "2030-01-31T12:00:00Z"]),
        ("queued_time>0001-01-01T00:00:00+23:59", ["queued_time", "years 1 to 9999"]),
        ("platform=linux", ["platform", "'linux'", "OSFamily:linux"]),
        ("platform=:linux", ["platform", "':linux'"]),
        ("platform<a:b", ["platform", "'<'", "= !="]),
        ("action_digest=abc", ["action_digest", "'abc'", "HASH/SIZE"]),
        ("action_digest=ABC/1", ["action_digest", "HASH/SIZE"]),
        ("sort_order=platform", ["sort_order", "'platform'", "Known: stage"]),
        ("sort_order=queued_tim(desc)", ["sort_order", "Did you mean queued_time?"]),
        ("sort_order=name(up)", ["sort_order", "'name(up)'", "(asc) or (desc)"]),
        ("sort_order=name(desc", ["sort_order", "(asc) or (desc)"]),
        ("sort_order!=name", ["sort_order", "'!='", "are: ="]),
        ("name==a", ["'name'", "'=='", "= != < <= > >=", "double quotes"]),
        ("name=>a", ["'=>'"]),
        ("name!a", ["'!'"]),
        ("name", ["'name'", "KEY OPERATOR VALUE"]),
        ("=a", ["'=a'", "KEY OPERATOR VALUE"]),
        ("command=a && b", ["''", "double quotes"]),
        ("name=a&", ["last '&'"]),
        ("&name=a", ["''", "KEY OPERATOR VALUE"]),
        ('command="a', ["'command'", "does not end"]),
        ('command="a" b', ["'command'", "does not end"]),
        ('command="a\\n"', ["'command'", "backslash"]),
        ("name=a\0b", ["name", "NUL"]),
        ("name=a\ud800b", ["name", "Unicode"]),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_key_and_the_remedy(text: str, words: list[str]) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_filters(text)
    message = str(raised.value)
    assert message.startswith("filter: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("parameter", "operator", "value", "words"),
    [
        ("queued_time", ">", datetime(2030, 1, 1), "no time zone"),  # noqa: DTZ001 - what is refused
        ("queued_time", ">", 5, "the value must be: ISO 8601"),
        ("stage", "=", True, "the value must be: stage"),
        ("stage", "=", 9, "'9' is no stage"),
        ("name", "=", None, "the value must be: text"),
        ("name", "~", "a", "not one of its operators"),
        ("platform", "=", Property("a", "\0"), "NUL"),
        ("platform", "=", Property("a:b", "c"), "the value must be: KEY:VALUE"),
        ("sort_order", "=", SortKey("platform"), "'platform' is no key to sort by"),
    ],
)
def test_a_program_cannot_make_a_filter_that_makes_no_sense(
    parameter: str, operator: str, value: object, words: str
) -> None:
    with pytest.raises(InvalidArgument) as raised:
        OperationFilter(parameter, operator, value)  # type: ignore[arg-type]
    assert words in str(raised.value)


def test_a_long_value_does_not_make_a_long_message() -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_filters(f"stage={'x' * 100_000}")
    assert len(str(raised.value)) < 500


def test_the_number_of_conditions_is_bounded() -> None:
    assert len(parse_filters("&".join(["name!=a"] * MAX_FILTERS))) == MAX_FILTERS
    with pytest.raises(InvalidArgument, match=f"more than {MAX_FILTERS}"):
        parse_filters("&".join(["name!=a"] * (MAX_FILTERS + 1)))


# --- anything at all

_WORDS = [*KEYS, *OPERATORS, "&", '"', "\\", " ", "QUEUED", "a:b", DIGEST, "2030-01-31T12:00:00Z", "(desc)"]
_SOUP = st.lists(st.sampled_from(_WORDS) | st.text(max_size=4), max_size=14).map("".join)
_STORABLE = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=30)
_VALUES = {
    Kind.TEXT: _STORABLE,
    Kind.DIGEST: st.from_regex(r"[0-9a-f]{1,64}/[0-9]{1,9}", fullmatch=True),
    Kind.TIME: st.datetimes(timezones=st.just(UTC)),
    Kind.STAGE: st.sampled_from(Stage),
    Kind.PROPERTY: st.builds(
        Property,
        st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0:"), min_size=1),
        _STORABLE,
    ),
    Kind.ORDER: st.builds(SortKey, st.sampled_from(SORTABLE), st.booleans()),
}


@st.composite
def filters(draw: st.DrawFn) -> OperationFilter:
    key = draw(st.sampled_from(list(KEYS)))
    operators = {Kind.PROPERTY: OPERATORS[:2], Kind.ORDER: OPERATORS[:1]}.get(KEYS[key], OPERATORS)
    return OperationFilter(key, draw(st.sampled_from(operators)), draw(_VALUES[KEYS[key]]))


@given(st.text() | _SOUP)
@example('name="a\n')
@example('name="\n"&')
@example("queued_time>2030-W05-4T12Z")
def test_of_any_text_come_filters_that_can_be_written_again_or_an_error(text: str) -> None:
    try:
        found = parse_filters(text)
    except InvalidArgument:
        return
    assert parse_filters(format_filters(found)) == found


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a loaded machine the first draw is
@given(st.lists(filters(), max_size=5))
def test_what_is_written_is_read_as_it_was(made: list[OperationFilter]) -> None:
    assert parse_filters(format_filters(made)) == made
