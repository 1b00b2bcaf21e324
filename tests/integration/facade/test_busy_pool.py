"""More readers than connections: they wait, and then they are told, and the next one gets its answer."""

from collections.abc import Callable, Iterator

import pytest
from buildgrid_scheduler import Scheduler, SqlProvider, Unavailable, instance_context
from buildgrid_scheduler.storage.memory import MemoryStorage
from sqlalchemy import text

from tests.integration.facade.calls import PROPERTIES

READS: dict[str, Callable[[Scheduler], object]] = {
    "list_operations": lambda scheduler: scheduler.list_operations(),
    "list_workers": lambda scheduler: scheduler.list_workers("", 1, 0),
    "count_bots_by_status": lambda scheduler: scheduler.count_bots_by_status(),
    "get_metrics": lambda scheduler: scheduler.get_metrics(),
}


@pytest.fixture
def narrow(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlProvider]:
    """A pool of two connections, that is waited for only briefly."""
    provider = SqlProvider(database, pool_size=1)
    monkeypatch.setattr(provider._engine.pool, "_timeout", 0.05)
    yield provider
    provider.close()


@pytest.mark.parametrize("read", READS)
def test_while_every_connection_is_in_use_reads_are_unavailable(narrow: SqlProvider, read: str) -> None:
    scheduler = Scheduler(narrow, MemoryStorage(), property_set=PROPERTIES, session_expiry_timer_interval=0)
    with scheduler, instance_context("team"):
        with narrow.session() as one, narrow.session() as two:
            for session in (one, two):
                session.execute(text("SELECT 1"))
            with pytest.raises(Unavailable, match=r"in use|reached"):
                READS[read](scheduler)
        assert READS[read](scheduler) is not None
