"""What the tests of the facade call over and over, and what they read from the answers."""

from collections.abc import Callable
from datetime import UTC, datetime

from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import Lease, LeaseState
from buildgrid_scheduler import BotStatus, DynamicPropertySet, Scheduler, requirement_hash
from google.longrunning.operations_proto_pb2 import Operation

OK = int(BotStatus.OK)
PROPERTIES = DynamicPropertySet(
    unique_property_keys=set(), match_property_keys={"Pool"}, wildcard_property_keys=set()
)
Start = Callable[..., Scheduler]


class Time:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def action(word: str) -> re_pb2.Digest:
    return digest_of(word.encode())


def queue(
    scheduler: Scheduler,
    word: str,
    *,
    skip_cache_lookup: bool = False,
    do_not_cache: bool = False,
    **needs: str,
) -> str:
    return scheduler.queue_job_action(
        action=re_pb2.Action(do_not_cache=do_not_cache, salt=word.encode()),
        action_digest=action(word),
        command=re_pb2.Command(arguments=["make", word]),
        platform_requirements={key: [value] for key, value in needs.items()},
        property_label="unknown",
        priority=0,
        skip_cache_lookup=skip_cache_lookup,
        request_metadata=re_pb2.RequestMetadata(tool_invocation_id="1", correlated_invocations_id="a\0b"),
    )


def metadata_of(operation: Operation) -> re_pb2.ExecuteOperationMetadata:
    metadata = re_pb2.ExecuteOperationMetadata()
    assert operation.metadata.Unpack(metadata)
    return metadata


def response_of(operation: Operation) -> re_pb2.ExecuteResponse:
    assert operation.done
    response = re_pb2.ExecuteResponse()
    assert operation.response.Unpack(response)
    return response


def completed(lease: Lease, exit_code: int = 0) -> Lease:
    done = Lease()
    done.CopyFrom(lease)
    done.state = LeaseState.COMPLETED
    done.result.Pack(re_pb2.ActionResult(exit_code=exit_code))
    return done


def active(lease: Lease) -> Lease:
    running = Lease()
    running.CopyFrom(lease)
    running.state = LeaseState.ACTIVE
    return running


def give(scheduler: Scheduler, session: str, bot_id: str = "bot", **needs: str) -> Lease:
    """Let a bot have a job, and hear of it."""
    hash_ = requirement_hash({key: [value] for key, value in needs.items()})
    assert scheduler.assign_n_leases_by_priority(capability_hash=hash_, bot_names=[session]) == [session]
    lease = scheduler.synchronize_bot_lease(session, bot_id, OK, None)
    assert lease is not None
    assert lease.state == LeaseState.PENDING
    return lease
