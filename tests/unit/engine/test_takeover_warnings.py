"""That two bots use one bot_id is told with its names, and not at each of their calls."""

import pytest
from buildgrid_scheduler.engine.takeovers import Takeover, TakeoverWarnings


def takeover(bot_id: str = "bot", instance: str = "team") -> Takeover:
    return Takeover(instance, bot_id, "old", "new", "10.0.0.7:4711")


def test_it_is_told_once_a_minute_for_each_bot_id(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    warnings = TakeoverWarnings(clock=lambda: now)
    for now in (0.0, 1.0, 59.0, 60.0, 61.0):  # noqa: B007 - what the clock says
        warnings.note(takeover())
    assert len(caplog.records) == 2
    warnings.note(takeover("another"))
    warnings.note(takeover(instance="theirs"))
    assert len(caplog.records) == 4


def test_it_names_the_bot_the_instance_the_address_and_the_remedy(caplog: pytest.LogCaptureFixture) -> None:
    TakeoverWarnings().note(takeover())
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    for words in ("'bot'", "'team'", "10.0.0.7:4711", "a bot_id of its own"):
        assert words in record.message
