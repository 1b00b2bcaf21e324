"""What a server tells of its farm: the replicas with what each runs on, and the work that waits."""

import grpc
import pytest
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import FleetState, GetStateRequest, Replica
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2_grpc import FleetStub
from buildgrid_scheduler.config.source import ConfigSource

from tests.farm.clients import WITHIN, Client
from tests.farm.waiting import eventually_sync
from tests.integration.server.conftest import OpenChannel, StartServer
from tests.integration.server.server_process import Server


class Fleet:
    """The service of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def state(self, *instances: str) -> FleetState:
        """What it tells now."""
        with grpc.insecure_channel(self._server.endpoint) as channel:
            state: FleetState = FleetStub(channel).GetState(
                GetStateRequest(instance_names=instances), timeout=WITHIN
            )
            return state

    def wait_for(self, *hashes: str) -> list[Replica]:
        """The replicas, once these are the hashes of what they run on."""

        def there() -> bool:
            return sorted(r.config_hash for r in self.state().replicas) == sorted(hashes)

        eventually_sync(there, 20, lambda: f"{hashes} {self.state()}")
        return list(self.state().replicas)


def hash_of(server: Server) -> str:
    """Of its file as it is now."""
    return ConfigSource(server.config_file).digest()


def test_each_replica_tells_of_all_and_of_what_each_runs_on(start_server: StartServer) -> None:
    first, second = start_server(reload={"interval": "200ms"}), start_server()
    both = Fleet(second).wait_for(hash_of(first), hash_of(second))
    assert Fleet(first).state().replicas == both
    assert len({replica.id for replica in both}) == 2
    assert all(replica.host and replica.version and replica.start_time.seconds for replica in both)
    before = hash_of(first)
    first.write(logging={"level": "debug"}, services={"reflection": False})
    changed = next(
        r for r in Fleet(second).wait_for(hash_of(first), hash_of(second)) if r.config_hash == hash_of(first)
    )
    assert hash_of(first) != before
    assert list(changed.config_fields_at_restart) == ["services.reflection"]
    second.terminate()
    assert [replica.id for replica in Fleet(first).wait_for(hash_of(first))] == [changed.id]


def test_a_file_that_is_not_taken_up_is_told_of_with_the_reason(start_server: StartServer) -> None:
    server = start_server(reload={"interval": "200ms"})
    good = hash_of(server)
    Fleet(server).wait_for(good)
    server.write(scheduler={"max_queue_size": "many"})

    def refused() -> bool:
        return Fleet(server).state().replicas[0].refused_config_hash == hash_of(server)

    eventually_sync(refused, 20, server.describe)
    (replica,) = Fleet(server).state().replicas
    assert replica.config_hash == good
    assert "max_queue_size" in replica.refused_config_error
    server.write(scheduler={"max_queue_size": 5})
    (mended,) = Fleet(server).wait_for(hash_of(server))
    assert (mended.refused_config_hash, mended.refused_config_error) == ("", "")


async def test_jobs_are_told_by_what_they_require(start_server: StartServer, channels: OpenChannel) -> None:
    server = start_server(instances=["", "other"])
    client = Client(channels(server))
    for name in ("a", "b"):
        await client.queue(await client.add_action(name, platform={"OSFamily": "linux", "Pool": "gpu"}))
    state = Fleet(server).state()
    (requirement,) = state.requirements
    assert [(p.key, p.value) for p in requirement.properties] == [("OSFamily", "linux"), ("Pool", "gpu")]
    assert (requirement.property_label, requirement.queued, requirement.executing) == ("gpu", 2, 0)
    assert 0 <= state.time.seconds - requirement.oldest_queued_time.seconds < 60
    assert not Fleet(server).state("other").requirements
    with pytest.raises(grpc.RpcError, match="instance_name 'nobody' is not known here"):
        Fleet(server).state("nobody")
