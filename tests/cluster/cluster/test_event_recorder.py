"""Events on the real API server: sent, counted, made anew, and never a reason to fail."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import EVENT, Manifest, ObjectRef
from buildgrid_operator.reconcile.event_recorder import EventRecorder
from buildgrid_operator.status.events import Happening, Regarding
from buildgrid_scheduler.core.clock import utc_now

from tests.cluster.cluster.conftest import Calls
from tests.cluster.cluster.faults import HANG_UP, Fault, FaultyServer


class MovedClock:
    def __init__(self) -> None:
        self.now = utc_now()

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def happening(namespace: str, request: pytest.FixtureRequest) -> Happening:
    name = request.node.originalname.replace("_", "-")[:60]
    about = Regarding("buildgrid.build/v1alpha1", "Scheduler", namespace, name, f"uid-{name}")
    return Happening(about, "Warning", "Reconcile", "InvalidSpec", "spec.replicas: must be 1 or more")


def events_of(client: Client, happening: Happening) -> list[Manifest]:
    events = client.list(EVENT, happening.regarding.namespace).items
    return [event for event in events if event["regarding"]["uid"] == happening.regarding.uid]


def test_what_goes_on_is_one_event_with_a_count(
    client: Client, happening: Happening, clock: MovedClock, calls: Calls
) -> None:
    recorder = EventRecorder(client, "operator-0", clock)
    for _ in range(30):
        recorder.record(happening)
        clock.now += timedelta(seconds=30)
    assert [(call.verb, call.code) for call in calls] == [("create", 201), ("patch", 200)]
    (event,) = events_of(client, happening)
    assert event["series"]["count"] == 21
    clock.now += timedelta(minutes=10)
    recorder.flush()
    assert events_of(client, happening)[0]["series"]["count"] == 30


def test_an_event_that_the_api_server_forgot_is_made_anew(
    client: Client, happening: Happening, clock: MovedClock
) -> None:
    recorder = EventRecorder(client, "operator-0", clock)
    recorder.record(happening)
    (event,) = events_of(client, happening)
    client.delete(ObjectRef(EVENT, event["metadata"]["namespace"], event["metadata"]["name"]))
    clock.now += timedelta(minutes=10)
    recorder.record(happening)
    assert len(events_of(client, happening)) == 1


def test_an_event_whose_answer_was_lost_is_not_sent_twice(
    client: Client, faulty: Client, faults: FaultyServer, happening: Happening, clock: MovedClock
) -> None:
    faults.faults.append(Fault(HANG_UP, after=True))
    EventRecorder(faulty, "operator-0", clock).record(happening)
    EventRecorder(client, "operator-0", clock).record(happening)
    assert len(events_of(client, happening)) == 1


def test_without_the_permission_an_event_is_lost_and_nothing_else(
    client: Client,
    client_as: Callable[[str], Client],
    happening: Happening,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        EventRecorder(client_as("[]"), "operator-0").record(happening)
    assert "the operator may not create events.events.k8s.io" in caplog.text
    assert events_of(client, happening) == []
