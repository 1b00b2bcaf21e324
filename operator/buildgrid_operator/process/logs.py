"""The log: on standard error, an event a line, for people or as JSON, with the object that it is about."""

import json
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal, TextIO

from buildgrid_scheduler.core.log_fields import current_log_fields, log_fields

from buildgrid_operator.cluster.kinds import ObjectRef
from buildgrid_operator.status.messages import redacted

FIELDS = ("kind", "namespace", "name", "uid")
"""What an event is about, in the order in which it is shown."""
# Libraries that speak of their own matters; the client shows bodies of answers at DEBUG.
_QUIET = ("asyncio", "aiohttp", "urllib3", "grpc", "kopf")
_NEVER_DEBUG = ("kubernetes",)


def configure_logging(
    *, form: Literal["json", "text"], level: str = "info", stream: TextIO | None = None
) -> None:
    """Log so from now on; may be called again. `level` is debug, info, warning or error."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h.formatter, JsonFormatter | TextFormatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    quiet = logging.NOTSET if level == "debug" else logging.WARNING
    for name in _QUIET:
        logging.getLogger(name).setLevel(quiet)
    for name in _NEVER_DEBUG:
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def about(ref: ObjectRef, uid: str = "") -> Iterator[None]:
    """Events inside of the block are about the object; also on threads begun there by `asyncio.to_thread`."""
    with log_fields(kind=ref.kind.kind, namespace=ref.namespace, name=ref.name, uid=uid):
        yield


def fields_of(record: logging.LogRecord) -> dict[str, str]:
    """What the event is about; kopf's own events bring their object along."""
    found = current_log_fields()
    of_kopf = getattr(record, "k8s_ref", None)
    if isinstance(of_kopf, Mapping):
        found.update({name: str(of_kopf.get(name) or "") for name in FIELDS})
    return {name: found[name] for name in FIELDS if found.get(name)}


class JsonFormatter(logging.Formatter):
    """Keys: time (RFC 3339, UTC), level, logger, message, those of FIELDS that apply, and error (a trace)."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        event = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(record.getMessage()),
            **fields_of(record),
        }
        if trace := _trace(record):
            event["error"] = trace
        return json.dumps(event, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Time (UTC), level, logger, message and fields; a trace follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or several with a trace."""
        # The package's own name says nothing here.
        logger = record.name.removeprefix("buildgrid_operator.")
        # A name from outside must not look like a line of its own.
        message = redacted(record.getMessage()).replace("\n", "\\n")
        line = f"{_time(record)} {record.levelname} {logger}: {message}"
        if fields := fields_of(record):
            line += " [" + " ".join(f"{name}={_plain(value)}" for name, value in fields.items()) + "]"
        trace = _trace(record)
        return f"{line}\n{trace}" if trace else line


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: str) -> str:
    return value if value.isprintable() and " " not in value else json.dumps(value)


def _trace(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    return redacted("".join(traceback.format_exception(*record.exc_info)).rstrip())
