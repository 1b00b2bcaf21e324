"""The names of a lease's streams in the database: clients read, the bot writes."""

import uuid

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ExecuteOperationMetadata
from buildgrid_scheduler.core.job_state import Stage, operation_message
from buildgrid_scheduler.core.job_streams import JobStreams
from buildgrid_scheduler.engine.log_streams import load_lease_metadata, store_streams

from tests.integration.engine.replica import Replica, digest_of, success

STREAMS = JobStreams("out", "out/write", "err", "err/write")


def metadata_of(replica: Replica, operation: str) -> ExecuteOperationMetadata:
    loaded = replica.load(operation)
    message = operation_message(loaded.instance, loaded.name, loaded.state)
    return ExecuteOperationMetadata.FromString(message.metadata.value)


def test_clients_see_the_names_to_read_and_bots_those_to_write(replica: Replica) -> None:
    operation = replica.enqueue("compile").operation_name
    session = replica.open()
    job = replica.take(session)
    assert replica.call(store_streams("", session, job, STREAMS))
    seen = metadata_of(replica, operation)
    assert (seen.stdout_stream_name, seen.stderr_stream_name) == ("out", "err")
    (told,) = replica.call(load_lease_metadata("", [job]))
    assert (told.stdout_write, told.stderr_write) == ("out/write", "err/write")
    assert (told.stage, told.action_digest) == (Stage.EXECUTING, digest_of("compile"))


def test_clients_on_every_replica_hear_of_the_names(replica: Replica) -> None:
    replica.enqueue("compile")
    session = replica.open()
    job = replica.take(session)
    heard: list[str] = []
    store = store_streams("", session, job, STREAMS)

    def transaction(db: object, now: object, effects: object) -> None:
        store(db, now, effects)  # type: ignore[arg-type]
        heard.extend(effects.states)  # type: ignore[attr-defined]

    replica.call(transaction)
    assert heard == [job]


def test_a_session_that_lost_the_lease_names_no_streams(replica: Replica) -> None:
    operation = replica.enqueue("compile").operation_name
    session = replica.open()
    job = replica.take(session)
    other = replica.open("other")
    assert not replica.call(store_streams("", other, job, STREAMS))
    replica.sync(session, reports={job: success()})
    assert not replica.call(store_streams("", session, job, STREAMS))
    assert metadata_of(replica, operation).stdout_stream_name == ""


def test_leases_of_another_instance_are_not_named(replica: Replica) -> None:
    replica.enqueue("compile")
    session = replica.open()
    job = replica.take(session)
    assert not replica.call(store_streams("another", session, job, STREAMS))
    assert replica.call(load_lease_metadata("another", [job])) == []


def test_leases_are_told_in_the_order_asked_without_unknown_ones(replica: Replica) -> None:
    jobs = [replica.enqueue(word).job_name for word in ("a", "b")]
    session = replica.open()
    first = replica.take(session)
    second = next(job for job in jobs if job != first)
    told = replica.call(load_lease_metadata("", [second, str(uuid.uuid4()), first]))
    assert [lease.stage for lease in told] == [Stage.QUEUED, Stage.EXECUTING]
