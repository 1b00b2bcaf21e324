"""Bots that announce their end: once they have nothing left to do, their sessions end within moments."""

import logging
from datetime import timedelta

import pytest
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.engine.round import LEAVES_WITHIN

from tests.integration.engine.replica import (
    ACTIVE,
    KEEPALIVE,
    Replica,
    Report,
    success,
)

SECOND = timedelta(seconds=1)
GOING = pytest.mark.parametrize(
    "status", [BotStatus.BOT_TERMINATING, BotStatus.HOST_REBOOTING], ids=lambda status: status.name
)


@GOING
def test_a_bot_that_leaves_without_work_is_gone_within_moments(
    replica: Replica, status: BotStatus, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    session = replica.open()
    answer = replica.sync(session, status=status)
    assert answer.expires_at < replica.clock() + LEAVES_WITHIN, "it is told so"
    replica.clock.advance(LEAVES_WITHIN - SECOND)
    assert replica.reap() == 0
    replica.clock.advance(2 * SECOND)
    assert replica.reap() == 1
    assert "bot session ended: it left" in caplog.messages


@GOING
def test_what_it_still_runs_is_waited_for_and_then_it_may_go(replica: Replica, status: BotStatus) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open()
    job = replica.take(session)
    answer = replica.sync(session, reports={job: Report(ACTIVE)}, status=status)
    assert answer.expires_at > replica.clock() + KEEPALIVE - SECOND
    report = {job: success()}
    for _ in range(2):  # the first answer is lost
        answer = replica.sync(session, reports=report, status=status)
        assert answer.leases == ()
        assert answer.expires_at < replica.clock() + LEAVES_WITHIN
    assert replica.stage(operation) is Stage.COMPLETED


def test_what_it_hands_back_does_not_keep_it(replica: Replica) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open()
    replica.take(session)
    answer = replica.sync(session, status=BotStatus.BOT_TERMINATING)
    assert replica.stage(operation) is Stage.QUEUED
    assert answer.expires_at < replica.clock() + LEAVES_WITHIN


def test_a_bot_that_was_told_to_stop_an_action_stays_until_it_has(replica: Replica) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open()
    job = replica.take(session)
    replica.sync(session, reports={job: Report(ACTIVE)})
    replica.cancel(operation)
    answer = replica.sync(session, reports={job: Report(ACTIVE)}, status=BotStatus.BOT_TERMINATING)
    assert answer.expires_at > replica.clock() + KEEPALIVE - SECOND
    answer = replica.sync(session, reports={job: success()}, status=BotStatus.BOT_TERMINATING)
    assert answer.expires_at < replica.clock() + LEAVES_WITHIN


@pytest.mark.parametrize("status", [BotStatus.OK, BotStatus.UNHEALTHY], ids=lambda status: status.name)
def test_a_bot_that_stays_is_believed_as_ever(replica: Replica, status: BotStatus) -> None:
    session = replica.open()
    replica.sync(session, status=BotStatus.BOT_TERMINATING)
    assert replica.sync(session, status=status).expires_at > replica.clock() + KEEPALIVE - SECOND
