"""What an event in the log is about: job, operation, bot and alike, as fields of their own.

Two ways lead there: `extra={"job": name}` of one event, and `log_fields(job=name)` for all events inside of a
block, in a thread or a task. How they are shown is the program's to say (see server.logs).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

FIELDS = ("method", "instance", "invocation", "operation", "job", "bot", "session", "client", "incident")
"""Every field that there is, in the order in which they are shown."""

_Source = Callable[[], Mapping[str, str]]
_sources: ContextVar[tuple[_Source, ...]] = ContextVar("log_fields", default=())


@contextmanager
def log_fields(**fields: str) -> Iterator[None]:
    """Events inside of the block carry these, besides those of blocks around it."""
    token = _sources.set((*_sources.get(), lambda: fields))
    try:
        yield
    finally:
        _sources.reset(token)


def bind_log_fields(source: _Source) -> None:
    """As `log_fields`, until the end of the task; `source` is asked only when there is an event to show."""
    _sources.set((*_sources.get(), source))


def current_log_fields() -> dict[str, str]:
    """The fields in force here; the innermost wins."""
    fields: dict[str, str] = {}
    for source in _sources.get():
        fields.update(source())
    return fields
