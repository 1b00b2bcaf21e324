"""A late report of a bot whose session was taken over, as a program that embeds the scheduler sees it."""

import pytest
from buildgrid_scheduler import Scheduler
from buildgrid_scheduler.core.errors import InvalidArgument

from tests.integration.facade.calls import OK, active, give, queue


def test_a_late_report_names_the_cause_and_its_job_is_not_counted_a_try(scheduler: Scheduler) -> None:
    operation = queue(scheduler, "action")
    for _ in range(8):  # of five tries
        old = scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=OK)
        lease = give(scheduler, old)
        scheduler.synchronize_bot_lease(old, "bot", OK, active(lease))
        scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=OK)
        with pytest.raises(InvalidArgument, match="another session of bot_id 'bot'") as raised:
            scheduler.synchronize_bot_lease(old, "bot", OK, active(lease))
        assert raised.value.cause is not None
        assert raised.value.cause.reason == "BOT_ID_TAKEN_OVER"
    assert not scheduler.load_operation(operation).done
