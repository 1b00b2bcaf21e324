"""Lists of operations, held against a model of what they must hold."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import combinations

import pytest
from buildgrid_scheduler.core.errors import DeadlineExceeded, InvalidArgument, Unavailable
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.operation_filter import (
    KEYS,
    OPERATORS,
    SORTABLE,
    Kind,
    OperationFilter,
    SortKey,
    parse_filters,
)
from buildgrid_scheduler.engine.listing import BYTES_PER_OPERATION, OperationList
from buildgrid_scheduler.store.provider import SqlProvider
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tests.integration.engine.listed import (
    DAWN,
    WORDS,
    Job,
    Listed,
    expected,
    random_operations,
    store,
)
from tests.integration.store.postgres import TestPostgres

OPERATIONS = random_operations(seed=4, jobs=150)
VALUES: dict[Kind, list[str]] = {
    Kind.TEXT: [*WORDS, "a1-0", OPERATIONS[40].name],
    Kind.DIGEST: ["3/1", "f/2", "0/0"],
    Kind.TIME: [(DAWN + timedelta(microseconds=n)).isoformat() for n in (-1, 0, 3, 7, 8)],
    Kind.STAGE: [stage.name for stage in Stage],
    Kind.PROPERTY: ["Pool:x", "ISA:y:z", "Pool:&", "Weather:fine"],
}
CONDITIONS = [key for key, kind in KEYS.items() if kind is not Kind.ORDER]


def operators_of(key: str) -> tuple[str, ...]:
    return ("=", "!=") if KEYS[key] is Kind.PROPERTY else OPERATORS


@pytest.fixture(scope="module")
def filled(postgres: TestPostgres) -> Iterator[SqlProvider]:
    """A database with OPERATIONS."""
    url = postgres.create()
    provider = SqlProvider(url)
    store(provider, OPERATIONS)
    yield provider
    provider.close()
    postgres.drop(url)


@pytest.fixture(scope="module")
def operations(filled: SqlProvider) -> OperationList:
    return OperationList(filled)


@pytest.fixture
def lists(provider: SqlProvider) -> OperationList:
    """Of a database of the test's own."""
    return OperationList(provider)


def names(lists: OperationList, filters: list[OperationFilter], instance: str = "main") -> list[str]:
    page, token = lists.page(instance, filters)
    assert token == ""
    return [operation.name for operation in page]


def paged(
    lists: OperationList, filters: list[OperationFilter], page_size: int, instance: str = "main"
) -> list[list[str]]:
    pages: list[list[str]] = []
    token = ""
    while token or not pages:
        page, token = lists.page(instance, filters, page_size=page_size, page_token=token or None)
        pages.append([operation.name for operation in page])
    return pages


# --- what is in a list


@pytest.mark.parametrize("key", CONDITIONS)
def test_each_operator_of_a_key_finds_what_the_model_finds(operations: OperationList, key: str) -> None:
    seen = set()
    for operator in operators_of(key):
        for value in VALUES[KEYS[key]]:
            condition = OperationFilter(key, operator, value)
            found = names(operations, [condition])
            assert found == expected(OPERATIONS, [condition], "main"), condition
            seen.add(len(found))
    assert len(seen) > 1, "the values tell nothing apart"


@pytest.mark.parametrize("key", SORTABLE)
def test_each_key_sorts_in_either_direction_and_what_has_no_value_comes_last(
    operations: OperationList, key: str
) -> None:
    for descending in (False, True):
        for condition in ([], parse_filters("stage>UNKNOWN")):
            filters = [*condition, OperationFilter("sort_order", "=", SortKey(key, descending))]
            assert names(operations, filters) == expected(OPERATIONS, filters, "main")


@st.composite
def questions(draw: st.DrawFn) -> list[OperationFilter]:
    keys = draw(st.lists(st.sampled_from(CONDITIONS), max_size=3))
    conditions = [
        OperationFilter(
            key, draw(st.sampled_from(operators_of(key))), draw(st.sampled_from(VALUES[KEYS[key]]))
        )
        for key in keys
    ]
    order = draw(st.lists(st.sampled_from(SORTABLE), max_size=4, unique=True))
    return conditions + [
        OperationFilter("sort_order", "=", SortKey(key, draw(st.booleans()))) for key in order
    ]


@settings(max_examples=100, deadline=None)
@given(filters=questions(), page_size=st.integers(1, 40), instance=st.sampled_from(["main", "other"]))
def test_the_pages_of_any_question_are_what_the_model_finds(
    operations: OperationList, filters: list[OperationFilter], page_size: int, instance: str
) -> None:
    wanted = expected(OPERATIONS, filters, instance)
    pages = paged(operations, filters, page_size, instance)
    assert [name for page in pages for name in page] == wanted
    assert all(len(page) == page_size for page in pages[:-1])
    assert pages[-1] or not wanted, "a last page that is empty"


def test_without_a_filter_the_unfinished_operations_are_listed_oldest_first(
    operations: OperationList,
) -> None:
    page, token = operations.page("main")
    assert token == ""
    assert [o.name for o in page] == expected(OPERATIONS, [], "main")
    assert {o.state.stage for o in page} == {Stage.QUEUED, Stage.EXECUTING}
    assert not any(o.cancelled for o in page)


def test_an_order_alone_lists_unfinished_operations_and_any_condition_all_of_them(
    operations: OperationList,
) -> None:
    unfinished = set(names(operations, []))
    assert set(names(operations, parse_filters("sort_order=name(desc)"))) == unfinished
    everything = {o.name for o in OPERATIONS if o.job.instance == "main"}
    assert set(names(operations, parse_filters("queued_time>2000-01-01T00:00:00Z"))) == everything


def test_each_operation_is_as_it_is_when_it_is_loaded(operations: OperationList) -> None:
    listed = {o.name: o for o in OPERATIONS}
    page, _ = operations.page("main", parse_filters("stage>UNKNOWN"))
    for found in page:
        model = listed[found.name]
        assert (found.instance, found.job_name) == ("main", model.job.name)
        assert (found.cancelled, found.state.stage) == (model.cancelled, model.job.stage)
        assert found.state.action_digest == model.job.digest
        assert found.state.response == (b"response" if model.job.completed else None)
        assert found.owner == model.identity


def test_an_operation_is_found_by_its_name_on_the_wire_too(operations: OperationList) -> None:
    name = next(o.name for o in OPERATIONS if o.job.instance == "main")
    assert names(operations, [OperationFilter("name", "=", f"main/{name}")]) == [name]
    assert names(operations, [OperationFilter("name", "=", f"other/{name}")]) == []
    assert names(operations, [OperationFilter("name", "=", name)], "other") == []


def test_the_owner_sees_their_own_operations_whatever_the_filter(operations: OperationList) -> None:
    owners = {o.identity for o in OPERATIONS if o.identity is not None}
    for owner in owners:
        own = [o for o in OPERATIONS if o.identity == owner]
        for filters in ([], parse_filters("stage>UNKNOWN"), parse_filters("client_subject=b")):
            page, _ = operations.page("main", filters, owner=owner)
            assert [o.name for o in page] == expected(own, filters, "main")
    assert len(owners) > 2


def test_nobody_is_shown_the_operations_of_somebody_unknown(operations: OperationList) -> None:
    nobody = ("main", "no", "such", "client")
    assert operations.page("main", parse_filters("stage>UNKNOWN"), owner=nobody) == ([], "")


# --- pages


def test_a_page_size_of_zero_or_none_is_all(operations: OperationList) -> None:
    assert operations.page("main", page_size=0) == operations.page("main", page_size=None)


def test_a_page_size_below_zero_is_refused(operations: OperationList) -> None:
    with pytest.raises(InvalidArgument, match="page_size: -1"):
        operations.page("main", page_size=-1)


def test_a_list_that_just_fits_has_no_next_page(operations: OperationList) -> None:
    total = len(names(operations, []))
    assert operations.page("main", page_size=total)[1] == ""
    assert operations.page("main", page_size=total - 1)[1] != ""


def test_the_token_of_a_page_is_good_for_no_other_question(operations: OperationList) -> None:
    _, token = operations.page("main", parse_filters("stage>UNKNOWN"), page_size=1)
    assert operations.page("main", parse_filters("stage>UNKNOWN"), page_size=9, page_token=token)[0]
    for instance, filters in (
        ("other", "stage>UNKNOWN"),
        ("main", ""),
        ("main", "stage>=UNKNOWN"),
        ("main", "stage>UNKNOWN&sort_order=name"),
    ):
        with pytest.raises(InvalidArgument, match="page_token"):
            operations.page(instance, parse_filters(filters), page_token=token)
    with pytest.raises(InvalidArgument, match="page_token"):
        operations.page("main", parse_filters("stage>UNKNOWN"), page_token=token[:-3])


@pytest.mark.parametrize(
    "order", ["", "sort_order=queued_time(desc)", "sort_order=tool_name&sort_order=stage"]
)
def test_pages_hold_what_was_there_all_the_time_once_while_others_come_and_go(
    provider: SqlProvider, lists: OperationList, order: str
) -> None:
    filters = parse_filters(f"stage>UNKNOWN&{order}".rstrip("&"))
    there = [o for o in OPERATIONS[:120] if o.job.instance == "main"]
    store(provider, there)
    stays = {o.name for o in there[::2]}
    goes = [o.name for o in there if o.name not in stays]
    seen: list[str] = []
    token, round_ = "", 0
    while token or not round_:
        page, token = lists.page("main", filters, page_size=7, page_token=token or None)
        seen += [o.name for o in page]
        # Before, among and behind what was read: even the last one of the page may go.
        new = [
            Listed(f"new-{round_}-{n}", Job(f"new-job-{round_}-{n}", queued=DAWN + timedelta(microseconds=n)))
            for n in range(-2, 10, 3)
        ]
        store(provider, new)
        gone = [page[-1].name] if page and page[-1].name not in stays else goes[round_ : round_ + 1]
        with provider.session() as session:
            session.execute(text("DELETE FROM operations WHERE name = ANY(:names)"), {"names": gone})
        round_ += 1
    assert round_ > 5
    assert len(seen) == len(set(seen))
    assert stays <= set(seen)


def test_a_page_ends_before_it_is_too_large_but_never_empty(
    provider: SqlProvider, lists: OperationList
) -> None:
    sizes = [100, 100, 5000, 100, 100, 100]
    store(
        provider,
        [
            Listed(
                f"o-{n}",
                Job(
                    f"j-{n}",
                    queued=DAWN + timedelta(seconds=n),
                    completed=DAWN,
                    response=b"r" * size,
                ),
            )
            for n, size in enumerate(sizes)
        ],
    )
    room = 2 * (BYTES_PER_OPERATION + 100)
    filters = parse_filters("stage=COMPLETED")
    pages: list[list[str]] = []
    token = ""
    while token or not pages:
        page, token = lists.page("main", filters, page_size=5, page_token=token or None, max_bytes=room)
        pages.append([o.name for o in page])
    assert pages == [["o-0", "o-1"], ["o-2"], ["o-3", "o-4"], ["o-5"]]


# --- when it cannot be


def test_what_would_read_for_too_long_is_refused_with_a_remedy(filled: SqlProvider) -> None:
    lists = OperationList(filled, timeout=timedelta(milliseconds=200))
    with filled.session() as session:
        session.execute(text("LOCK TABLE operations IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(DeadlineExceeded, match=r"0\.2 s.*queued_time>="):
            lists.page("main", parse_filters("command=make"))
    assert lists.page("main")[0], "the connection is as good as before"


def test_the_limits_of_a_list_end_with_it(filled: SqlProvider, operations: OperationList) -> None:
    one_connection = SqlProvider(filled.sqlalchemy_url.set(drivername="postgresql").render_as_string(False))
    try:
        OperationList(one_connection).page("main")
        with one_connection.session() as session:
            assert session.execute(text("SHOW statement_timeout")).scalar_one() == "0"
            assert session.execute(text("SHOW transaction_isolation")).scalar_one() == "read committed"
            assert session.execute(text("SHOW transaction_read_only")).scalar_one() == "off"
    finally:
        one_connection.close()


def test_an_instance_that_no_name_can_be_is_refused(operations: OperationList) -> None:
    with pytest.raises(InvalidArgument, match="instance_name"):
        operations.page("a\0b")


def test_while_the_database_is_away_lists_are_unavailable() -> None:
    away = SqlProvider("postgresql://nobody@127.0.0.1:9/nothing")
    with pytest.raises(Unavailable):
        OperationList(away).page("main")
    away.close()


def test_the_operations_of_the_model_are_of_all_sorts() -> None:
    main = [o for o in OPERATIONS if o.job.instance == "main"]
    assert {o.stage for o in main} == {Stage.QUEUED, Stage.EXECUTING, Stage.COMPLETED}
    assert any(o.cancelled and o.job.completed is None for o in main)
    assert any(o.metadata is None for o in main)
    assert any(a.job is b.job for a, b in combinations(main, 2))
