"""How long presence is believed."""

from datetime import timedelta

from buildgrid_scheduler.storage.confirmed import ConfirmedBlobs


def test_presence_is_believed_for_its_lifetime_from_the_last_confirmation_on() -> None:
    now = [100.0]
    confirmed = ConfirmedBlobs(timedelta(seconds=10), clock=lambda: now[0])
    confirmed.add(["a", "b"])
    now[0] += 9
    confirmed.add(["b"])
    assert confirmed.among(["a", "b", "c"]) == {"a", "b"}
    now[0] += 9
    assert confirmed.among(["a", "b", "c"]) == {"b"}


def test_what_turned_out_to_be_missing_is_not_believed_any_more() -> None:
    confirmed = ConfirmedBlobs(timedelta(seconds=10))
    confirmed.add(["a"])
    confirmed.discard("a")
    confirmed.discard("never seen")
    assert confirmed.among(["a"]) == set()


def test_no_lifetime_means_no_belief() -> None:
    now = 100.0
    confirmed = ConfirmedBlobs(timedelta(0), clock=lambda: now)
    confirmed.add(["a"])
    assert confirmed.among(["a"]) == set()


def test_only_the_latest_are_remembered() -> None:
    confirmed = ConfirmedBlobs(timedelta(seconds=10), most=2)
    confirmed.add(["a", "b"])
    confirmed.add(["a"])
    confirmed.add(["c"])
    assert confirmed.among(["a", "b", "c"]) == {"a", "c"}
