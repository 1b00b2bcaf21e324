"""The log: which object an event is about, and nothing that is secret."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from buildgrid_operator.cluster.kinds import SCHEDULER, ObjectRef
from buildgrid_operator.process.logs import JsonFormatter, TextFormatter, about, configure_logging

REF = ObjectRef(SCHEDULER, "farm", "main")


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    """The log is as it was afterwards."""
    logger = logging.getLogger()
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers
    for name in ("asyncio", "aiohttp", "urllib3", "grpc", "kopf", "kubernetes"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_events_say_which_object_they_are_about_also_on_threads() -> None:
    stream = io.StringIO()
    configure_logging(form="json", stream=stream)

    async def pass_of() -> None:
        with about(REF, "uid-1"):
            await asyncio.to_thread(logging.getLogger("buildgrid_operator.x").info, "applied %d", 3)

    asyncio.run(pass_of())
    logging.getLogger("x").info("outside")
    inside, outside = lines(stream)
    assert {k: inside[k] for k in ("kind", "namespace", "name", "uid")} == {
        "kind": "Scheduler",
        "namespace": "farm",
        "name": "main",
        "uid": "uid-1",
    }
    assert (inside["message"], inside["level"]) == ("applied 3", "info")
    assert "kind" not in outside


def test_text_is_one_line_with_the_object_at_its_end() -> None:
    stream = io.StringIO()
    configure_logging(form="text", stream=stream)
    with about(REF):
        logging.getLogger("buildgrid_operator.reconcile").warning("two\nlines")
    line = stream.getvalue()
    assert line.endswith("WARNING reconcile: two\\nlines [kind=Scheduler namespace=farm name=main]\n")


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_passwords_and_tokens_are_not_shown_in_messages_or_traces(formatter: logging.Formatter) -> None:
    try:
        raise RuntimeError("cannot connect to postgresql://bgd:hunter2@db/bgd")
    except RuntimeError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, "", 1, "Authorization: Bearer abcdefgh12345", (), (type(error), error, None)
        )
    text = formatter.format(record)
    assert "hunter2" not in text
    assert "abcdefgh12345" not in text
    assert "postgresql://***@db/bgd" in text


def test_the_object_of_kopfs_own_events_is_shown() -> None:
    record = logging.LogRecord("kopf.objects", logging.INFO, "", 1, "seen", (), None)
    record.__dict__["k8s_ref"] = {"kind": "Scheduler", "name": "main", "namespace": None, "uid": "u"}
    event = json.loads(JsonFormatter().format(record))
    assert (event["kind"], event["name"], event["uid"]) == ("Scheduler", "main", "u")
    assert "namespace" not in event


def test_the_kubernetes_client_never_shows_bodies() -> None:
    configure_logging(form="json", level="debug", stream=io.StringIO())
    assert not logging.getLogger("kubernetes.client.rest").isEnabledFor(logging.DEBUG)
    assert logging.getLogger("buildgrid_operator.x").isEnabledFor(logging.DEBUG)


def test_configuring_again_replaces_the_settings() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging(form="text", stream=first)
    configure_logging(form="json", level="warning", stream=second)
    logging.getLogger("x").info("quiet")
    logging.getLogger("x").warning("loud")
    assert first.getvalue() == ""
    assert [event["message"] for event in lines(second)] == ["loud"]
