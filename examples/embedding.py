"""A build farm inside one program: clients, bots, and the scheduler between them.

`python examples/embedding.py` runs it on the database that DATABASE_URL names; without one, on an embedded
PostgreSQL in a temporary folder (the extra `embedded`). docs/embedding.md explains it piece by piece.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Action,
    ActionResult,
    Command,
    Digest,
    ExecuteResponse,
    Platform,
    RequestMetadata,
    ToolDetails,
)
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import BotSession, Lease, LeaseState
from buildgrid_scheduler import (
    BotStatus,
    DynamicPropertySet,
    NotFound,
    OperationFilter,
    Scheduler,
    SchedulerError,
    SqlProvider,
    StorageABC,
    Unavailable,
    instance_context,
    requirement_hash,
)
from buildgrid_scheduler.core.job_state import Stage, operation_message
from buildgrid_scheduler.core.lease_transition import LeaseState as State
from buildgrid_scheduler.engine.items import Report, Synchronize
from buildgrid_scheduler.engine.sessions import NewSession
from buildgrid_scheduler.notifier.watches import Watch
from buildgrid_scheduler.properties.matching import Matching
from buildgrid_scheduler.server.metrics.engine import EngineMetrics
from buildgrid_scheduler.storage.memory import MemoryStorage
from buildgrid_scheduler.store.action_cache import PostgresActionCache
from buildgrid_scheduler.store.embedded import EmbeddedPostgres
from buildgrid_scheduler.store.migrate import migrate
from google.longrunning.operations_proto_pb2 import Operation
from prometheus_client import CollectorRegistry

INSTANCE = f"example-{uuid.uuid4()}"  # a tenant of this run's own: it sees nothing of earlier ones
PROPERTIES = DynamicPropertySet(
    unique_property_keys={"Pool"},
    match_property_keys={"Pool"},
    wildcard_property_keys={"network"},
    label_key="Pool",
)
POOLS = ("small", "large")


@contextmanager
def database() -> Iterator[str]:
    """The URL of a PostgreSQL database: the caller's, or one that ends with this program."""
    if url := os.environ.get("DATABASE_URL"):
        yield url
        return
    folder = Path(tempfile.mkdtemp(prefix="embedding-"))
    folder.chmod(0o755)  # where this runs as root, the server runs as somebody else
    server = EmbeddedPostgres(folder / "postgres")
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Build the parts, start them, stop them in the opposite order."""
    with database() as url, closing(SqlProvider(url)) as provider:
        migrate(provider)
        scheduler = Scheduler(
            provider,
            MemoryStorage(),
            property_set=PROPERTIES,
            action_cache=PostgresActionCache(provider),
        )
        registry = CollectorRegistry()
        scheduler.engine.observe(EngineMetrics(registry))  # before the start
        with scheduler, instance_context(INSTANCE):
            show(scheduler)
        completed = registry.get_sample_value("buildgrid_jobs_completed_total", {"code": "OK"})
        print(f"jobs that the bots completed: {completed:.0f}")


def show(scheduler: Scheduler) -> None:
    """What a program may want of a scheduler, one after the other."""
    operations = ask_from_four_threads(scheduler)
    jobs = {scheduler.get_operation_job_name(name) for name in operations}
    print(f"{len(operations)} operations share {len(jobs)} jobs")

    if (metrics := scheduler.get_metrics()) is not None:  # None: asked again within the publish interval
        print("queued jobs:", {pool: metrics["jobs"]["QUEUED", pool] for pool in POOLS})

    filters = OperationFilter.parse_filters("stage=QUEUED & platform=Pool:large & tool_name=example")
    page, token = scheduler.list_operations(filters, page_size=8)
    rest, _ = scheduler.list_operations(filters, page_size=8, page_token=token)
    print(f"for large bots wait {len(page)} operations, and {len(rest)} on the next page")

    for output in asyncio.run(build(scheduler, operations[:6])):
        print("built:", output)

    again = answer_of(scheduler.load_operation(ask(scheduler, "small", "small 0")))
    print("asked again:", again.result.stdout_raw.decode().strip(), "- cached:", again.cached_result)

    unwanted = ask(scheduler, "small", "nobody waits for this")
    scheduler.cancel_operation(unwanted)
    print("cancelled:", answer_of(scheduler.load_operation(unwanted)).status.message)

    try:
        ask(scheduler, "small", "here", Colour="red")
    except SchedulerError as error:
        print(f"{error.code.name}: {error}")


def ask_from_four_threads(scheduler: Scheduler) -> list[str]:
    """Four clients at once, all of which want the same six actions."""

    def client(number: int) -> list[str]:
        with instance_context(INSTANCE):  # a new thread acts for nobody yet
            return [ask(scheduler, pool, f"{pool} {word}") for pool in POOLS for word in range(3)]

    with ThreadPoolExecutor(4) as threads:
        return [name for names in threads.map(client, range(4)) for name in names]


def ask(scheduler: Scheduler, pool: str, words: str, **properties: str) -> str:
    """Put an action into the CAS and queue it, as Execute does; returns the operation's name."""
    pairs = sorted({"Pool": pool, **properties}.items())
    command = Command(arguments=["echo", words])
    command_digest = store(scheduler.storage, command.SerializeToString(deterministic=True))
    action = Action(
        command_digest=command_digest,
        input_root_digest=digest_of(b""),
        platform=Platform(properties=[Platform.Property(name=name, value=value) for name, value in pairs]),
    )
    label, requirements = scheduler.property_set.execution_properties(action.platform)
    return scheduler.queue_job_action(
        action=action,
        action_digest=store(scheduler.storage, action.SerializeToString(deterministic=True)),
        command=command,
        platform_requirements=requirements,
        property_label=label,
        priority=0,
        skip_cache_lookup=False,
        request_metadata=RequestMetadata(tool_details=ToolDetails(tool_name="example")),
    )


def store(storage: StorageABC, blob: bytes) -> Digest:
    """Put a blob into the CAS."""
    digest = digest_of(blob)
    (error,) = storage.write_many([(digest, blob)])
    if error is not None:
        raise error
    return digest


async def build(scheduler: Scheduler, operations: list[str]) -> list[str]:
    """Let two bots work until these operations are done; returns what the commands printed."""
    leaving = threading.Event()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(polling_bot, scheduler, "bot-1", "small", leaving))
            waiting = group.create_task(waiting_bot(scheduler, "bot-2", "large"))
            done = await asyncio.gather(*(finished(scheduler, name) for name in operations))
            bots = await asyncio.to_thread(
                scheduler.count_bots_by_status
            )  # blocks: not for the loop's thread
            print(f"connected bots: {bots[BotStatus.OK]}")
            leaving.set()
            waiting.cancel()
    finally:
        leaving.set()
    return [answer_of(operation).result.stdout_raw.decode().strip() for operation in done]


async def finished(scheduler: Scheduler, name: str) -> Operation:
    """An operation when it is done, on whatever replica that happens. Costs a Watch, not a thread."""
    engine = scheduler.engine
    watch = Watch(name)
    try:
        while True:
            watch.arm()  # what changes after the look below is noticed
            loaded = await engine.load(name)
            if loaded is None or loaded.instance != INSTANCE:  # the engine knows of no ambient instance
                raise NotFound(f"operation {name!r} is not known")
            if loaded.cancelled or loaded.state.stage is Stage.COMPLETED:
                return operation_message(INSTANCE, name, loaded.state, cancelled=loaded.cancelled)
            if watch.closed or engine.leaving:
                raise Unavailable("the scheduler stops")
            if watch.job_name is None:
                engine.watches.add(loaded.job_name, watch)  # and look once more: it may be done by now
            else:
                await watch.changed(30)  # seconds; the net under a notification that is lost
    finally:
        engine.watches.drop(watch)


def answer_of(operation: Operation) -> ExecuteResponse:
    """The response that a done operation carries."""
    response = ExecuteResponse()
    operation.response.Unpack(response)
    return response


def polling_bot(scheduler: Scheduler, bot_id: str, pool: str, leaving: threading.Event) -> None:
    """A bot on a thread: asks for work by requirement hash, ten times a second."""
    offered = scheduler.property_set.worker_properties(described(bot_id, pool))
    hashes = [requirement_hash(requirements) for requirements in offered]
    session = scheduler.add_bot_entry(bot_session_id=bot_id, bot_session_status=BotStatus.OK)
    report: Lease | None = None
    while not leaving.is_set():
        lease = scheduler.synchronize_bot_lease(session, bot_id, BotStatus.OK, report)
        report = None if lease is None else next_report(scheduler.storage, lease)
        if lease is None and not any(
            scheduler.assign_n_leases_by_priority(capability_hash=hash_, bot_names=[session])
            for hash_ in hashes
        ):
            leaving.wait(0.1)
    scheduler.close_bot_sessions(session)


def next_report(storage: StorageABC, told: Lease) -> Lease:
    """Carry out what a bot is told of its lease; returns what it reports then."""
    report = Lease(id=told.id, payload=told.payload, state=told.state)
    if told.state == LeaseState.PENDING:
        report.state = LeaseState.ACTIVE
    elif told.state == LeaseState.ACTIVE:
        report.result.Pack(run(storage, told.payload.value))
        report.state = LeaseState.COMPLETED
    return report  # CANCELLED is confirmed as it is


def described(bot_id: str, pool: str) -> BotSession:
    """A bot as it describes itself: what it offers are the properties of its first device."""
    session = BotSession(bot_id=bot_id)
    session.worker.devices.add().properties.add(key="Pool", value=pool)
    return session


def run(storage: StorageABC, action: bytes) -> ActionResult:
    """Run the command of an action. A bot for more than `echo` has inputs, outputs and a sandbox."""
    command = storage.read_one(Action.FromString(action).command_digest)
    if command is None:
        raise NotFound("the command is not in the CAS")
    done = subprocess.run(list(Command.FromString(command).arguments), capture_output=True, check=False)
    return ActionResult(exit_code=done.returncode, stdout_raw=done.stdout, stderr_raw=done.stderr)


async def waiting_bot(scheduler: Scheduler, bot_id: str, pool: str) -> None:
    """A bot as a coroutine: its call is held until there is work. Matched by all that it offers at once."""
    engine = scheduler.engine
    offer = Matching(scheduler.property_set).offer(described(bot_id, pool))
    session = str(uuid.uuid4())
    await engine.call(engine.sessions.open(NewSession(session, INSTANCE, bot_id, BotStatus.OK, offer=offer)))
    reports: dict[str, Report] = {}
    try:
        while True:
            call = Synchronize(engine.ticket(), INSTANCE, session, bot_id, BotStatus.OK, reports, offer)
            answer = await engine.synchronize(call, hold=60)
            reports = {}
            for told in answer.leases:
                if told.action is not None:  # a short action may go from PENDING to COMPLETED at once
                    result = await asyncio.to_thread(run, scheduler.storage, told.action)
                    reports[told.job_name] = Report(State.COMPLETED, result=result.SerializeToString())
                elif told.state is State.CANCELLED:
                    reports[told.job_name] = Report(State.CANCELLED)
    finally:
        await engine.call(engine.sessions.close(INSTANCE, session, "the bot leaves"))


if __name__ == "__main__":
    main()
