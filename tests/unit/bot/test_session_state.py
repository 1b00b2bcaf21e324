"""What a bot tells the server next, as a pure function of what happened."""

import math

from buildgrid_bot.session_state import HeldLeases, Report
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ActionResult,
    ExecutedActionMetadata,
)
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import (
    ACTIVE,
    BOT_TERMINATING,
    CANCELLED,
    COMPLETED,
    OK,
    PENDING,
    Lease,
    LeaseState,
)
from google.rpc.status_pb2 import Status

METADATA = ExecutedActionMetadata(worker="bot")


def lease(id_: str = "a", state: LeaseState.ValueType = PENDING) -> Lease:
    return Lease(id=id_, state=state)


def holding(*ids: str, slots: int = 1, at: float = 100.0) -> HeldLeases:
    held = HeldLeases(slots, grace=0.1)
    orders = held.answered(held.report(OK), [lease(id_) for id_ in ids], at)
    assert [started.id for started in orders.start] == list(ids)
    return held


def states(report: Report) -> dict[str, int]:
    return {told.id: told.state for told in report.leases}


def test_a_pending_lease_is_started_once_however_often_it_is_told() -> None:
    held = holding("a")
    orders = held.answered(held.report(OK), [lease("a")], 101)
    assert not orders.start
    assert states(held.report(OK)) == {"a": PENDING}


def test_fetching_is_no_news() -> None:
    assert holding("a").news_due(None, OK) is None


def test_running_is_news_only_after_the_grace() -> None:
    held = holding("a", at=100)
    held.started("a", METADATA)
    assert held.news_due(None, OK) == 100.1
    assert held.news_due(held.report(OK), OK) is None


def test_an_end_is_news_at_once() -> None:
    held = holding("a")
    report = held.report(OK)
    held.started("a", METADATA)
    held.finished("a", Status(), ActionResult(exit_code=1))
    assert held.news_due(report, OK) == -math.inf
    assert states(held.report(OK)) == {"a": COMPLETED}


def test_an_end_is_reported_until_an_answer_arrives_and_then_dropped() -> None:
    held = holding("a")
    held.finished("a", Status(code=13, message="why"), None)
    held.report(OK)  # lost on its way
    report = held.report(OK)
    assert report.leases[0].status.message == "why"
    assert held.count == 1
    held.answered(report, [], 101)
    assert held.count == 0
    assert not held.report(OK).leases


def test_an_end_during_a_call_outlives_its_answer() -> None:
    held = holding("a")
    report = held.report(OK)
    held.finished("a", Status(), ActionResult())
    held.answered(report, [lease("a")], 101)
    assert states(held.report(OK)) == {"a": COMPLETED}


def test_the_answer_to_an_end_may_bring_the_next_lease() -> None:
    held = holding("a")
    held.finished("a", Status(), ActionResult())
    orders = held.answered(held.report(OK), [lease("b")], 101)
    assert [started.id for started in orders.start] == ["b"]
    assert held.full


def test_the_same_job_may_come_again_as_another_try() -> None:
    held = holding("a")
    held.finished("a", Status(code=13), None)
    orders = held.answered(held.report(OK), [lease("a")], 101)
    assert [started.id for started in orders.start] == ["a"]
    assert states(held.report(OK)) == {"a": PENDING}


def test_an_echo_of_a_completed_lease_is_not_another_try() -> None:
    held = holding("a")
    held.finished("a", Status(), ActionResult())
    assert not held.answered(held.report(OK), [lease("a", COMPLETED)], 101).start
    assert held.count == 0


def test_a_cancelled_lease_is_stopped_once_and_held_until_its_end_is_accepted() -> None:
    held = holding("a")
    held.started("a", METADATA)
    orders = held.answered(held.report(OK), [lease("a", CANCELLED)], 101)
    assert orders.stop == ["a"]
    report = held.report(OK)
    assert states(report) == {"a": ACTIVE}
    assert not held.answered(report, [lease("a", CANCELLED)], 102).stop
    held.finished("a", Status(code=1), None)
    assert states(held.report(OK)) == {"a": COMPLETED}
    held.answered(held.report(OK), [], 103)
    assert held.count == 0


def test_cancelled_leases_that_are_not_held_are_ignored() -> None:
    held = HeldLeases(1)
    orders = held.answered(held.report(OK), [lease("a", CANCELLED), lease("b", ACTIVE)], 100)
    assert not orders.start and not orders.stop and not held.count


def test_a_lease_that_the_answer_does_not_name_goes_on() -> None:
    held = holding("a")
    held.answered(held.report(OK), [], 101)
    assert states(held.report(OK)) == {"a": PENDING}


def test_partial_metadata_is_sent_until_the_server_knows_that_it_runs() -> None:
    held = holding("a")
    assert not held.report(OK).headers
    held.started("a", METADATA)
    report = held.report(OK)
    assert report.headers == [("partial-execution-metadata-a-bin", METADATA.SerializeToString())]
    assert held.report(OK).headers
    held.answered(report, [lease("a", ACTIVE)], 101)
    assert not held.report(OK).headers


def test_a_change_of_the_bots_own_status_is_news() -> None:
    held = HeldLeases(1)
    report = held.report(OK)
    assert held.news_due(report, OK) is None
    assert held.news_due(report, BOT_TERMINATING) == -math.inf


def test_slots_count_actions_and_not_reports() -> None:
    held = holding("a", "b", slots=2)
    before = held.full
    held.finished("a", Status(), ActionResult())
    assert (before, held.full) == (True, False)
    assert (held.count, held.running) == (2, 1)


def test_the_payload_is_not_sent_back() -> None:
    held = HeldLeases(1)
    mine = lease("a")
    mine.payload.Pack(METADATA)
    held.answered(held.report(OK), [mine], 100)
    assert not held.report(OK).leases[0].HasField("payload")


def test_a_bot_that_leaves_hands_back_what_has_not_started() -> None:
    held = holding("fetching", "running", "ended", "cancelled", slots=4)
    held.started("running", METADATA)
    held.answered(held.report(OK), [lease("cancelled", CANCELLED)], 101)
    held.finished("ended", Status(), ActionResult())

    assert held.hand_back() == ["fetching"]
    assert states(held.report(BOT_TERMINATING)) == {
        "running": ACTIVE,
        "ended": COMPLETED,
        "cancelled": PENDING,
    }


def test_what_an_answer_brings_to_a_bot_that_leaves_is_not_started() -> None:
    held = holding("a", slots=2)
    asked = held.report(OK)
    held.hand_back()

    orders = held.answered(asked, [lease("a"), lease("b")], 101, take_new=False)

    assert not orders.start
    assert not held.report(BOT_TERMINATING).leases


def test_a_report_has_no_more_headers_than_a_server_takes() -> None:
    ids = [f"00000000-0000-4000-8000-{number:012}" for number in range(1024)]
    held = holding(*ids, slots=1024)
    for id_ in ids:
        held.started(id_, METADATA)
    report = held.report(OK)
    assert len(report.leases) == 1024
    assert 0 < sum(len(name) + 4 * len(value) // 3 + 32 for name, value in report.headers) <= 32 * 1024
