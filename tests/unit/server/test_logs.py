"""The log: one event a line, with the names of what it is about."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from buildgrid_scheduler.config.model import LoggingConfig
from buildgrid_scheduler.core.log_fields import bind_log_fields, current_log_fields, log_fields
from buildgrid_scheduler.server.logs import configure_logging

log = logging.getLogger("buildgrid_scheduler.test")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield io.StringIO()
    root.handlers[:], root.level = handlers, level
    configure = [name for name in logging.root.manager.loggerDict if name.startswith("buildgrid_scheduler")]
    for name in configure:
        logging.getLogger(name).setLevel(logging.NOTSET)


def told(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_json_has_the_fields_of_the_event_and_of_what_surrounds_it(stream: io.StringIO) -> None:
    configure_logging(LoggingConfig(format="json"), stream)
    with log_fields(job="outer", invocation="build-1"), log_fields(operation="op"):
        log.warning("lost %s", "it", extra={"job": "a", "bot": "b"})
    event = json.loads(told(stream)[0])
    assert event.pop("time").endswith("Z")
    assert event == {
        "level": "warning",
        "logger": "buildgrid_scheduler.test",
        "message": "lost it",
        "invocation": "build-1",
        "operation": "op",
        "job": "a",
        "bot": "b",
    }


def test_text_has_them_after_the_message(stream: io.StringIO) -> None:
    configure_logging(LoggingConfig(), stream)
    log.info("done", extra={"bot": "b 1", "job": "a"})
    (line,) = told(stream)
    assert line.endswith('INFO test: done [job=a bot="b 1"]')


@pytest.mark.parametrize("kind", ["text", "json"])
def test_what_comes_from_outside_does_not_look_like_a_line_of_its_own(stream: io.StringIO, kind: str) -> None:
    configure_logging(LoggingConfig.model_validate({"format": kind}), stream)
    log.info("bot %s", "x\n2026-01-01T00:00:00Z ERROR forged", extra={"bot": "a\nb"})
    assert len(told(stream)) == 1


@pytest.mark.parametrize("kind", ["text", "json"])
def test_traces_are_kept(stream: io.StringIO, kind: str) -> None:
    configure_logging(LoggingConfig.model_validate({"format": kind}), stream)
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("failed")
    assert "ValueError: why" in stream.getvalue()
    assert len(told(stream)) == 1 or kind == "text"


def test_levels_are_those_of_the_configuration_and_change_with_it(stream: io.StringIO) -> None:
    loud = logging.getLogger("buildgrid_scheduler.storage")
    configure_logging(
        LoggingConfig.model_validate({"level": "warning", "loggers": {loud.name: "debug"}}), stream
    )
    log.info("no")
    loud.debug("yes")
    configure_logging(LoggingConfig(level="info"), stream)
    log.info("now")
    loud.debug("no more")
    assert [line.split(": ", 1)[1] for line in told(stream)] == ["yes", "now"]


def test_fields_that_are_looked_up_are_not_looked_up_without_an_event() -> None:
    asked = []

    def source() -> dict[str, str]:
        asked.append(1)
        return {"method": "Execute"}

    with log_fields(bot="b"):
        bind_log_fields(source)
        assert asked == []
        assert current_log_fields() == {"bot": "b", "method": "Execute"}
    assert current_log_fields() == {}


@pytest.mark.parametrize("named", ["grpc", "grpc._cython", "grpc._cython.cygrpc"])
def test_what_grpc_does_inside_is_told_to_those_who_ask_for_it(stream: io.StringIO, named: str) -> None:
    inside = logging.getLogger("grpc._cython.cygrpc")
    configure_logging(LoggingConfig(level="debug"), stream)
    inside.debug("poll")
    log.debug("ours")
    configure_logging(LoggingConfig.model_validate({"loggers": {named: "debug"}}), stream)
    inside.debug("asked for")
    configure_logging(LoggingConfig(level="debug"), stream)
    inside.debug("not any more")
    assert [line.split(": ", 1)[1] for line in told(stream)] == ["ours", "asked for"]


class ExecuteBatchError(Exception):
    """Named as that of grpc's core."""


@pytest.mark.parametrize(
    ("settings", "lines"),
    [({"level": "info"}, 0), ({"level": "debug"}, 0), ({"loggers": {"grpc": "debug"}}, 1)],
    ids=["info", "debug", "named"],
)
def test_an_answer_that_nobody_waited_for_is_no_error(
    stream: io.StringIO, settings: dict[str, object], lines: int
) -> None:
    configure_logging(LoggingConfig.model_validate(settings), stream)
    grpc_log = logging.getLogger("grpc._cython.cygrpc")
    for error in (ExecuteBatchError("gone"), RuntimeError("a fault")):
        grpc_log.error("raised by servicer method", exc_info=error)
    assert len([line for line in told(stream) if " DEBUG grpc" in line]) == lines
    assert [line for line in told(stream) if "Error: " in line] == ["RuntimeError: a fault"]
