"""Only who has watched for all of a time knows that nobody was there in it."""

from datetime import UTC, datetime, timedelta

from buildgrid_scheduler.timers.vigil import Vigil

START = datetime(2030, 1, 1, tzinfo=UTC)
GAP, SPAN = timedelta(seconds=100), timedelta(seconds=200)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def watched(*seconds: float) -> Vigil:
    vigil = Vigil(GAP)
    for second in seconds:
        vigil.looked(at(second))
    return vigil


def test_who_never_looked_knows_nothing() -> None:
    assert not watched().covers(timedelta(), at(0))


def test_it_covers_what_it_lasted_for() -> None:
    vigil = watched(0, 80, 160)
    assert not vigil.covers(SPAN, at(199))
    assert vigil.covers(SPAN, at(200))


def test_a_gap_begins_it_anew() -> None:
    vigil = watched(0, 100, 201)
    assert not vigil.covers(SPAN, at(201))
    assert not vigil.covers(SPAN, at(400))
    assert vigil.covers(SPAN, at(401))


def test_a_gap_that_is_just_not_too_long_is_none() -> None:
    assert watched(0, 100, 200).covers(SPAN, at(200))
