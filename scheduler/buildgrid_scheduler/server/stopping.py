"""The end of a server: no step keeps the later ones from being tried, whether it fails or hangs."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

log = logging.getLogger(__name__)

Step = Callable[[], None]


def tried(*steps: Step | None) -> bool:
    """Run the steps in order, each whatever became of those before. Failures are logged; False if any."""
    well = True
    for step in steps:
        if step is None:
            continue
        try:
            step()
        except Exception:
            log.exception("stopping: %s failed", getattr(step, "__qualname__", step))
            well = False
    return well


async def all_done(parts: Mapping[str, Awaitable[object]]) -> bool:
    """Wait for the ends of these, by their names. Failures are logged; False if any."""
    outcomes = await asyncio.gather(*parts.values(), return_exceptions=True)
    well = True
    for name, outcome in zip(parts, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            log.error("stopping: %s failed", name, exc_info=outcome)
            well = False
    return well


async def tried_within(limit: timedelta, *steps: Step | None) -> bool:
    """`tried`, on a thread of its own. False, too, if the steps hang: they are left alone then."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[bool] = loop.create_future()

    def told(well: bool) -> None:
        if not outcome.done():
            outcome.set_result(well)

    def run() -> None:
        well = tried(*steps)
        try:
            loop.call_soon_threadsafe(told, well)
        except RuntimeError:  # too late: the loop has gone, as has whoever waited
            log.info("stopping: the last step ended after it had been given up")

    threading.Thread(target=run, name="stopping", daemon=True).start()
    try:
        return await asyncio.wait_for(outcome, limit.total_seconds())
    except TimeoutError:
        log.error("stopping: not done within %g s, and given up", limit.total_seconds())
        return False
