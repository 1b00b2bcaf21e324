"""Calls that wait in a thread of their own, and the moment when they begin to."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 60.0
"""Seconds after which something that should have happened never will."""


def in_thread(call: Callable[[], T]) -> "Future[T]":
    """The call's outcome, some day."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is the outcome
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


@contextmanager
def outage_noticed() -> Iterator[threading.Event]:
    """Set as soon as a storage says that it waits for something that is away."""
    noticed = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "waiting for" in record.getMessage():
                noticed.set()

    handler = Handler()
    logger = logging.getLogger("buildgrid_scheduler.storage.outages")
    logger.addHandler(handler)
    try:
        yield noticed
    finally:
        logger.removeHandler(handler)
