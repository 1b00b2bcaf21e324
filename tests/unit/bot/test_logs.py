"""The bot's log: a line an event, with the time in UTC, for people and for collectors."""

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
from buildgrid_bot.logs import configure_logging

_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def keep_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def test_for_people_it_is_a_line_with_time_level_and_place() -> None:
    stream = io.StringIO()
    configure_logging(form="text", level="info", stream=stream)
    logging.getLogger("buildgrid_bot.session").warning("session %s\nis open", "a")
    logging.getLogger("buildgrid_bot.session").debug("not told")
    assert re.fullmatch(rf"{_TIME} WARNING session: session a\\nis open\n", stream.getvalue())


def test_for_collectors_it_is_an_object_with_the_trace() -> None:
    stream = io.StringIO()
    configure_logging(form="json", level="debug", stream=stream)
    try:
        raise OSError("the disk is full")
    except OSError:
        logging.getLogger("buildgrid_bot.cache").exception("not kept")
    event = json.loads(stream.getvalue())
    assert re.fullmatch(_TIME, event["time"])
    assert (event["level"], event["logger"], event["message"]) == ("error", "buildgrid_bot.cache", "not kept")
    assert event["error"].endswith("OSError: the disk is full")


def test_it_may_be_set_up_again() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging(form="json", level="info", stream=first)
    configure_logging(form="text", level="info", stream=second)
    logging.getLogger("buildgrid_bot").info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1
