"""The log: on standard error, an event a line, for people or as JSON for collectors. As the scheduler's."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Literal, TextIO

# Libraries that speak of their own matters.
_QUIET = ("asyncio", "grpc")


def configure_logging(*, form: Literal["json", "text"], level: str, stream: TextIO | None = None) -> None:
    """Log so from now on; may be called again. `level` is debug, info, warning or error."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h.formatter, JsonFormatter | TextFormatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)


class JsonFormatter(logging.Formatter):
    """Keys: time (RFC 3339, UTC), level, logger, message, and error (a trace) where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        event = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if trace := _trace(record):
            event["error"] = trace
        return json.dumps(event, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Time (UTC), level, logger and message; a trace follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or several with a trace."""
        # The package's own name says nothing here.
        logger = record.name.removeprefix("buildgrid_bot.")
        # A name from outside must not look like a line of its own.
        message = record.getMessage().replace("\n", "\\n")
        line = f"{_time(record)} {record.levelname} {logger}: {message}"
        trace = _trace(record)
        return f"{line}\n{trace}" if trace else line


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _trace(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    return "".join(traceback.format_exception(*record.exc_info)).rstrip()
