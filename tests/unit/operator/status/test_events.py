"""Which events are sent."""

from datetime import UTC, datetime, timedelta

from buildgrid_operator.status.events import EventAggregator, EventSeries, Happening, NewEvent, Regarding

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FARM = Regarding("buildgrid.build/v1alpha1", "Scheduler", "farm", "main", "uid-1")


def happening(reason: str = "InvalidSpec", about: Regarding = FARM) -> Happening:
    return Happening(about, "Warning", "Reconcile", reason, "spec.replicas: must be 1 or more")


def at(**passed: float) -> datetime:
    return NOON + timedelta(**passed)


def test_the_first_time_is_an_event() -> None:
    event = EventAggregator().record(happening(), NOON)
    assert isinstance(event, NewEvent)
    manifest = event.manifest("operator-0")
    assert manifest["metadata"]["namespace"] == "farm"
    assert manifest["metadata"]["name"].startswith("main.")
    assert manifest["eventTime"] == "2026-01-01T12:00:00.000000Z"
    assert (manifest["type"], manifest["action"], manifest["reason"]) == (
        "Warning",
        "Reconcile",
        "InvalidSpec",
    )
    assert (manifest["reportingController"], manifest["reportingInstance"]) == (
        "buildgrid.build/operator",
        "operator-0",
    )


def test_every_pass_that_finds_the_same_sends_nothing() -> None:
    aggregator = EventAggregator()
    aggregator.record(happening(), NOON)
    assert [aggregator.record(happening(), at(seconds=s)) for s in range(1, 600)] == [None] * 599


def test_what_goes_on_is_counted_once_in_ten_minutes() -> None:
    aggregator = EventAggregator()
    first = aggregator.record(happening(), NOON)
    assert isinstance(first, NewEvent)
    sent = [aggregator.record(happening(), at(minutes=m)) for m in range(1, 31)]
    series = [write for write in sent if write is not None]
    assert all(isinstance(write, EventSeries) and write.name == first.name for write in series)
    assert [write.count for write in series if isinstance(write, EventSeries)] == [11, 21, 31]


def test_a_change_is_sent_at_once_and_the_way_back_is_a_series() -> None:
    aggregator = EventAggregator()
    first = aggregator.record(happening("A"), NOON)
    assert isinstance(aggregator.record(happening("B"), at(minutes=1)), NewEvent)
    back = aggregator.record(happening("A"), at(minutes=2))
    assert isinstance(first, NewEvent)
    assert isinstance(back, EventSeries)
    assert (back.name, back.count, back.first) == (first.name, 2, first)
    assert back.patch() == {"series": {"count": 2, "lastObservedTime": "2026-01-01T12:02:00.000000Z"}}


def test_going_back_and_forth_every_second_is_written_once_a_minute() -> None:
    aggregator = EventAggregator()
    writes = [aggregator.record(happening("AB"[s % 2]), at(seconds=s)) for s in range(600)]
    assert len([write for write in writes if write is not None]) <= 2 * 10


def test_after_ten_quiet_minutes_it_is_a_new_event() -> None:
    aggregator = EventAggregator()
    first = aggregator.record(happening(), NOON)
    again = aggregator.record(happening(), at(minutes=10, seconds=1))
    assert isinstance(first, NewEvent)
    assert isinstance(again, NewEvent)
    assert first.name != again.name


def test_objects_do_not_share_events_even_with_one_name() -> None:
    aggregator = EventAggregator()
    other = Regarding(FARM.api_version, FARM.kind, FARM.namespace, FARM.name, "uid-2")
    first = aggregator.record(happening(), NOON)
    second = aggregator.record(happening(about=other), NOON)
    assert isinstance(first, NewEvent)
    assert isinstance(second, NewEvent)
    assert first.name != second.name


def test_the_same_event_sent_twice_has_the_same_name() -> None:
    one, two = EventAggregator().record(happening(), NOON), EventAggregator().record(happening(), NOON)
    assert isinstance(one, NewEvent)
    assert one == two


def test_counts_that_were_not_written_are_written_by_a_flush() -> None:
    aggregator = EventAggregator()
    aggregator.record(happening(), NOON)
    aggregator.record(happening(), at(minutes=1))
    assert aggregator.flush(at(minutes=5)) == []
    (write,) = aggregator.flush(at(minutes=10))
    assert isinstance(write, EventSeries)
    assert (write.count, write.at) == (2, at(minutes=1))
    assert aggregator.flush(at(minutes=30)) == []


def test_nothing_is_kept_of_what_is_over() -> None:
    aggregator = EventAggregator()
    for number in range(100):
        about = Regarding("v1", "Scheduler", "farm", f"s{number}", f"uid-{number}")
        aggregator.record(happening(about=about), NOON)
    aggregator.forget("uid-0")
    assert len(aggregator._objects) == 99
    aggregator.flush(at(minutes=11))
    assert aggregator._objects == {}


def test_the_note_has_no_secrets_and_at_most_1024_bytes() -> None:
    what = Happening(FARM, "Warning", "Reconcile", "X", "postgresql://a:secret@db " + "ä" * 2000)
    event = EventAggregator().record(what, NOON)
    assert isinstance(event, NewEvent)
    note = event.manifest("operator-0")["note"]
    assert "secret" not in note
    assert len(note.encode()) <= 1024


def test_names_stay_within_what_the_api_server_takes() -> None:
    about = Regarding("v1", "Scheduler", "farm", "a" * 253, "uid-1")
    event = EventAggregator().record(happening(about=about), NOON)
    assert isinstance(event, NewEvent)
    assert len(event.name) <= 253
