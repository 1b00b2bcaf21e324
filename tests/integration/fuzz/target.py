"""The server under fire: a process with a log, and a connection that sends it bytes."""

import itertools
import re
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import yaml
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as reapi
from buildgrid_protos.buildgrid.fleet.v1 import fleet_pb2
from buildgrid_protos.google.bytestream.bytestream_pb2 import WriteRequest
from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2
from google.longrunning.operations_proto_pb2 import Operation
from google.protobuf.message import Message

from tests.farm.replica import Replica
from tests.farm.waiting import eventually_sync
from tests.integration.fuzz.content import ALL, COMMAND, HARMFUL_ACTIONS, NOBODYS_ACTION, ROOT
from tests.integration.fuzz.methods import SERVICES, Method
from tests.integration.fuzz.names import BOT_ID, LEASES, OPERATIONS, PREFIX, SESSION
from tests.integration.fuzz.values import INSTANCES

GOOD = "good"
"""the instance whose users do everything right"""
WITHIN = 30.0
AT_ONCE = 3.7
"""a deadline with which a bot is not held"""
MOST_ANSWERS = 40
"""of a stream, before the caller hangs up"""
LONGEST_MESSAGE = 4096  # bytes of a status message
_TROUBLE = re.compile(r"^(?!.*WARNING).*(\bERROR\b|\bCRITICAL\b|Traceback|Exception|Error:|^E\d{4} )", re.M)
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]
Headers = tuple[tuple[str, bytes], ...]


class Call:
    """What is sent: serialized requests, and headers. Shows itself in words that can be read."""

    def __init__(self, method: Method, requests: tuple[bytes, ...], headers: Headers = ()) -> None:
        self.method = method
        self.requests = requests
        self.headers = headers

    def __repr__(self) -> str:
        shown = ", ".join(_shown(self.method.request, request) for request in self.requests)
        return f"{self.method.service}.{self.method.name}({shown}){self.headers or ''}"


@dataclass
class Outcome:
    """What came of it. OK for a stream that went on when we hung up."""

    code: grpc.StatusCode
    message: str
    answers: list[Any] = field(default_factory=list)


class _Replica(Replica):
    @property
    def log_file(self) -> Path:
        return self._log

    def check_input_tree(self, on: bool) -> None:
        assert self._process is not None
        configuration = yaml.safe_load(self._config.read_text())
        configuration["scheduler"]["check_input_tree"] = on
        self._config.write_text(yaml.safe_dump(configuration))
        self._process.send_signal(signal.SIGHUP)


class Target:
    """A server, its blobs uploaded, and callers of all kinds."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self._replica = _Replica(
            folder,
            database_url,
            instances=(*INSTANCES, GOOD),
            scheduler={"abandoned_operation_timeout": 5, "bot_session_keepalive_timeout": 600},
            logging={"level": "warning"},
            storage={"type": "disk", "max_bytes": 2 * 1024**3},
        )
        self._log_read = 0
        self._numbers = itertools.count()
        self.sent = 0
        """messages so far"""
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """calls so far, by method and code"""
        self._operations: list[str] = []
        self._leased = ""
        """an operation whose job the session was given"""
        self._session: bots_pb2.BotSession | None = None
        self._capacities = itertools.cycle(["4", "1"])

    def start(self) -> None:
        """Start the server, and put the content into its CAS."""
        self._replica.start()
        self._channel = grpc.insecure_channel(self._replica.endpoint, options=_OPTIONS)
        request = reapi.BatchUpdateBlobsRequest(instance_name=INSTANCES[0])
        for blob in ALL:
            request.requests.add(digest=digest_of(blob), data=blob)
        answer = self.ask("ContentAddressableStorage", "BatchUpdateBlobs", request)
        assert all(response.status.code == 0 for response in answer.responses)

    def close(self) -> None:
        """Stop it."""
        self._channel.close()
        self._replica.close()

    @property
    def resident_bytes(self) -> float:
        """Memory of the server's process."""
        return self._replica.metric("process_resident_memory_bytes")

    # --- what fuzzing sends

    def send(self, call: Call) -> Outcome:
        """Send it, and hold the answer against what is allowed."""
        outcome = self._outcome(call)
        self.sent += max(len(call.requests), 1)
        self._note(call, outcome)
        self.outcomes[call.method.name, outcome.code.name] += 1
        if outcome.code not in call.method.codes:
            raise AssertionError(f"{outcome.code.name}: {outcome.message}\n{self._new_log()}")
        if outcome.code is not grpc.StatusCode.OK:
            assert outcome.message, f"{outcome.code.name} without a message"
            assert len(outcome.message.encode()) <= LONGEST_MESSAGE, f"{len(outcome.message)} characters"
        if outcome.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            assert "received metadata size" not in outcome.message, outcome.message
        self.check_log()
        return outcome

    def _outcome(self, call: Call) -> Outcome:
        method = call.method
        channel: Any = self._channel
        requests = [self._with_real_names(request) for request in call.requests]
        headers = [(self._with_real_names(key.encode()).decode(), value) for key, value in call.headers]
        timeout = AT_ONCE if "Bots" in method.service else WITHIN
        options: dict[str, Any] = {"timeout": timeout, "metadata": headers or None}
        answers: list[Any] = []
        try:
            if method.streams_requests and not method.streams_responses:
                data = channel.stream_unary(method.path)(iter(requests), **options)
                answers.append(method.response.FromString(data))
            elif method.streams_responses:
                stream = channel.unary_stream(method.path)(requests[0], **options)
                most = 1 if "Execut" in method.name or method.name == "Watch" else MOST_ANSWERS
                answers.extend(method.response.FromString(data) for data in itertools.islice(stream, most))
                stream.cancel()
            else:
                data = channel.unary_unary(method.path)(requests[0], **options)
                answers.append(method.response.FromString(data))
        except grpc.RpcError as error:
            failed: Any = error
            return Outcome(failed.code(), failed.details() or "", answers)
        return Outcome(grpc.StatusCode.OK, "", answers)

    def _note(self, call: Call, outcome: Outcome) -> None:
        """What it changed, so that later requests name what is there."""
        ok = outcome.code is grpc.StatusCode.OK
        if call.method.name == "DeleteOperation" and ok:
            self._operations = []
        if call.method.name == "CreateBotSession" and ok:
            self._session = None
        if call.method.name == "Drain" and ok and BOT_ID in outcome.answers[0].bot_ids:
            undrain = fleet_pb2.UndrainRequest(instance_name=INSTANCES[0], bot_ids=[BOT_ID])
            self.ask("Fleet", "Undrain", undrain)  # or there would never be leases again
        if call.method.name == "UpdateBotSession":
            if ok and outcome.answers:
                self._session = outcome.answers[0]
            elif "create a new session" in outcome.message:
                self._session = None

    def give_up(self, call: Call, after: int) -> None:
        """Call a method that streams, and hang up after so many answers."""
        channel: Any = self._channel
        data = self._with_real_names(call.requests[0])
        self.sent += 1
        stream = channel.unary_stream(call.method.path)(data, timeout=WITHIN)
        for _ in itertools.islice(stream, after):
            pass
        stream.cancel()
        self.check_log()

    def check_blob(self, hash_: str, size: int) -> None:
        """It is in the CAS, and is what its name says."""
        asked = reapi.BatchReadBlobsRequest(digests=[reapi.Digest(hash=hash_, size_bytes=size)])
        (found,) = self.ask("ContentAddressableStorage", "BatchReadBlobs", asked).responses
        assert found.status.code == 0 and digest_of(found.data) == asked.digests[0], found

    def check_input_trees(self, on: bool) -> None:
        """Have actions refused whose input trees are malformed, or not."""
        self._replica.check_input_tree(on)
        request = reapi.ExecuteRequest(action_digest=digest_of(HARMFUL_ACTIONS[0]), skip_cache_lookup=True)
        call = Call(SERVICES["Execution"]["Execute"], (request.SerializeToString(),))
        eventually_sync(
            lambda: (self._outcome(call).code is grpc.StatusCode.INVALID_ARGUMENT) is on,
            WITHIN,
            lambda: "the configuration is not taken up",
        )

    def check_log(self) -> None:
        """No error was logged since the last look."""
        text = self._new_log()
        assert not _TROUBLE.search(text), f"the server's log says:\n{text[-6000:]}"

    def _new_log(self) -> str:
        log = self._replica.log_file
        if log.stat().st_size == self._log_read:
            return ""
        with log.open("rb") as file:
            file.seek(self._log_read)
            new = file.read()
        self._log_read += len(new)
        return new.decode(errors="replace")

    # --- what requests may name

    def _known_operations(self) -> list[str]:
        """One of each instance, without it."""
        if not self._operations:
            for instance in INSTANCES:
                request = reapi.ExecuteRequest(
                    instance_name=instance, action_digest=digest_of(NOBODYS_ACTION)
                )
                self._operations.append(self._execute(request).name.rpartition("/")[2])
        return [*self._operations, self._leased or self._operations[0]]

    def _known_session(self) -> bots_pb2.BotSession:
        """One that holds leases, if there was something to do."""
        if self._session is None:
            for _ in range(2):
                execute = reapi.ExecuteRequest(action_digest=self._new_action())
                execute.execution_policy.priority = -1000
                self._leased = self._execute(execute).name
            session = bots_pb2.BotSession(bot_id=BOT_ID, status=bots_pb2.OK)
            session.worker.devices.add(handle=BOT_ID)
            session.worker.configs.add(key="capacity", value=next(self._capacities))
            request = bots_pb2.CreateBotSessionRequest(bot_session=session)
            self._session = self.ask("Bots", "CreateBotSession", request)
        return self._session

    def _with_real_names(self, data: bytes) -> bytes:
        for placeholder, name in self._real_names(data):
            data = data.replace(placeholder.encode(), name.encode())
        return data

    def _real_names(self, data: bytes) -> Iterator[tuple[str, str]]:
        if PREFIX not in data:
            return
        if any(name.encode() in data for name in OPERATIONS):
            yield from zip(OPERATIONS, self._known_operations(), strict=True)
        if any(name.encode() in data for name in (SESSION, *LEASES)):
            session = self._known_session()
            yield SESSION, session.name
            yield from zip(LEASES, (lease.id for lease in session.leases), strict=False)

    def _new_action(self) -> reapi.Digest:
        """An action that nobody asked for before."""
        action = reapi.Action(command_digest=digest_of(COMMAND), input_root_digest=digest_of(ROOT))
        action.salt = f"salt {next(self._numbers)}".encode()
        data = action.SerializeToString()
        request = reapi.BatchUpdateBlobsRequest()
        request.requests.add(digest=digest_of(data), data=data)
        self.ask("ContentAddressableStorage", "BatchUpdateBlobs", request)
        return digest_of(data)

    # --- what good clients do

    def ask(self, service: str, method: str, *requests: Message) -> Any:
        """A call that must succeed: the answer."""
        found = SERVICES[service][method]
        data = tuple(request.SerializeToString() for request in requests)
        outcome = self._outcome(Call(found, data))
        assert outcome.code is grpc.StatusCode.OK, f"{method}: {outcome.code.name}: {outcome.message}"
        return outcome.answers[0]

    def _execute(self, request: reapi.ExecuteRequest) -> Operation:
        operation: Operation = self.ask("Execution", "Execute", request)
        return operation

    def check_good_clients(self) -> None:
        """An upload, a download, and an action that a bot executes, from its start to its result."""
        self._check_blobs(f"good {next(self._numbers)}".encode() * 1000)
        self._check_action()
        self.check_log()

    def _check_blobs(self, blob: bytes) -> None:
        digest = digest_of(blob)
        name = f"{GOOD}/uploads/u/blobs/{digest.hash}/{digest.size_bytes}"
        pieces = [blob[at : at + 4000] for at in range(0, len(blob), 4000)]
        requests = [
            WriteRequest(
                resource_name=name, write_offset=at * 4000, data=piece, finish_write=at == len(pieces) - 1
            )
            for at, piece in enumerate(pieces)
        ]
        assert self.ask("ByteStream", "Write", *requests).committed_size == len(blob)
        answer = self.ask(
            "ContentAddressableStorage",
            "BatchReadBlobs",
            reapi.BatchReadBlobsRequest(instance_name=GOOD, digests=[digest]),
        )
        assert answer.responses[0].data == blob

    def _check_action(self) -> None:
        action = self._new_action()
        execute = self._channel.unary_stream(
            SERVICES["Execution"]["Execute"].path,
            request_serializer=reapi.ExecuteRequest.SerializeToString,
            response_deserializer=Operation.FromString,
        )
        stream: Any = execute(reapi.ExecuteRequest(instance_name=GOOD, action_digest=action), timeout=WITHIN)
        told: Iterator[Operation] = iter(stream)
        next(told)
        session = bots_pb2.BotSession(bot_id="good", status=bots_pb2.OK)
        create = bots_pb2.CreateBotSessionRequest(parent=GOOD, bot_session=session)
        session = self.ask("Bots", "CreateBotSession", create)
        if not session.leases:
            session = self._update(session)
        (lease,) = session.leases
        lease.state = bots_pb2.ACTIVE
        session = self._update(session)
        (lease,) = session.leases
        lease.state = bots_pb2.COMPLETED
        lease.result.Pack(reapi.ActionResult(stdout_raw=b"done"))
        self._update(session)
        response = reapi.ExecuteResponse()
        *_, last = told
        assert last.response.Unpack(response) and response.result.stdout_raw == b"done", last

    def _update(self, session: bots_pb2.BotSession) -> bots_pb2.BotSession:
        request = bots_pb2.UpdateBotSessionRequest(name=session.name, bot_session=session)
        answer: bots_pb2.BotSession = self.ask("Bots", "UpdateBotSession", request)
        return answer


def _shown(kind: type[Message], data: bytes) -> str:
    try:
        return f"{kind.__name__}<{str(kind.FromString(data))[:3000]}>"
    except Exception:  # noqa: BLE001 - that is what is sent
        return f"{kind.__name__} unreadable: {data[:1500]!r}"
