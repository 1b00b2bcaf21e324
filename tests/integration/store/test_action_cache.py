"""The action cache in PostgreSQL."""

import pytest
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ActionResult
from buildgrid_scheduler.core.errors import Unavailable
from buildgrid_scheduler.store.action_cache import PostgresActionCache
from buildgrid_scheduler.store.provider import SqlProvider

ONE, TWO = digest_of(b"one"), digest_of(b"two")
FIRST, SECOND = ActionResult(exit_code=1), ActionResult(exit_code=2)


def test_results_are_found_in_their_instance_in_the_order_asked_for(provider: SqlProvider) -> None:
    cache = PostgresActionCache(provider)
    cache.update_many("a", [(ONE, FIRST)])
    assert cache.get_many("a", [TWO, ONE, ONE]) == [None, FIRST, FIRST]
    assert cache.get_many("b", [ONE]) == [None]
    assert cache.get_many("a", []) == []


def test_a_result_replaces_the_older_also_within_one_update(provider: SqlProvider) -> None:
    cache = PostgresActionCache(provider)
    cache.update_many("", [(ONE, FIRST), (TWO, FIRST), (ONE, SECOND)])
    assert cache.get_many("", [ONE, TWO]) == [SECOND, FIRST]
    cache.update_many("", [(TWO, SECOND)])
    cache.update_many("", [])
    assert cache.get_many("", [ONE, TWO]) == [SECOND, SECOND]


def test_while_the_database_is_away_the_cache_is_unavailable() -> None:
    nowhere = SqlProvider("postgresql://nobody@/none?host=/nonexistent")
    cache = PostgresActionCache(nowhere, allow_updates=False)
    assert not cache.allow_updates
    with pytest.raises(Unavailable, match="try again"):
        cache.get_many("", [ONE])
    with pytest.raises(Unavailable, match="try again"):
        cache.update_many("", [(ONE, FIRST)])
    nowhere.close()
