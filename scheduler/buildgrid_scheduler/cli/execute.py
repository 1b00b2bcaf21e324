"""`buildgrid-scheduler execute`: runs one command on the farm as if it ran here.

The command's output goes to ours, its outputs appear below the current folder, and its exit code is ours.
What the farm itself could not do ends with exit code 125, so that it is not mistaken for the command's.
"""

import argparse
import asyncio
import json
import math
import sys
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio
from buildgrid_client.cas import CasClient
from buildgrid_client.channel import open_channel, parse_endpoint
from buildgrid_client.digests import digest_key
from buildgrid_client.errors import ClientError
from buildgrid_client.execution import ExecutionClient
from buildgrid_client.execution_errors import ExecutionFailed
from buildgrid_client.remote_command import CommandResult, RemoteCommand, RemoteRunner
from buildgrid_client.tree import Input, split_path
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ExecuteOperationMetadata,
    ExecutionStage,
    GetCapabilitiesRequest,
)
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import CapabilitiesStub

DEFAULT_ENDPOINT = "grpc://127.0.0.1:50051"
FARM_FAILED = 125
_CONNECT_TIMEOUT_S = 10.0
_QUEUE_NOTICE_S = 10.0
_LONGEST_TIMEOUT_S = 7 * 24 * 3600.0


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand to the program's."""
    parser = subparsers.add_parser(
        "execute",
        help="run one command on the farm",
        description="Run one command on the farm, as if it ran here: its output and its exit code are ours.",
        epilog="Nothing but the inputs and variables named here reaches the command. Exit code 125: the farm "
        "could not run it. Example: buildgrid-scheduler execute --input src --output hello "
        "--env PATH=/usr/bin:/bin -- gcc -o hello src/hello.c",
    )
    add = parser.add_argument
    add("--endpoint", default=DEFAULT_ENDPOINT, metavar="URL", help="the server (default: %(default)s)")
    add("--instance", default="", metavar="NAME", help="instance name (default: the empty one)")
    add("--property", action="append", default=[], type=_pair, metavar="K=V", help="what the bot must offer")
    add("--input", action="append", default=[], metavar="PATH", help="file or folder the command reads")
    add("--output", action="append", default=[], metavar="PATH", help="file or folder to bring back")
    add("--env", action="append", default=[], type=_pair, metavar="K=V", help="environment variable")
    add("--timeout", type=_seconds, metavar="S", help="seconds after which the command is killed")
    add("--no-cache", action="store_true", help="neither use a stored result nor store this one")
    add("--skip-cache-lookup", action="store_true", help="run it even if its result is stored, and store it")
    add("--json", action="store_true", help="print the result as JSON instead of the command's output")
    add("arguments", nargs="+", metavar="COMMAND", help="the command and its arguments, after --")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    try:
        parse_endpoint(args.endpoint)
    except ValueError as error:
        return _complain(f"--endpoint: {error}")
    try:
        command = _command_of(args)
    except ValueError as error:
        return _complain(str(error))
    try:
        return asyncio.run(_run(args, command))
    except KeyboardInterrupt:
        _say("interrupted; the operation was cancelled")
        return 130


async def _run(args: argparse.Namespace, command: RemoteCommand) -> int:
    channel = open_channel(args.endpoint)
    try:
        if problem := await _not_ready(channel, args):
            return _complain(problem)
        cas = CasClient(channel, args.instance)
        execution = ExecutionClient(channel, args.instance, tool_name="buildgrid-scheduler execute")
        runner = RemoteRunner(cas, execution)
        with _QueueNotice(args) as notice:
            result = await runner.run(
                command, skip_cache_lookup=args.skip_cache_lookup or args.no_cache, on_stage=notice.on_stage
            )
        written = await runner.write_outputs(result, Path())
    except ExecutionFailed as error:
        if error.response is not None:
            sys.stdout.buffer.write(error.response.result.stdout_raw)
            sys.stderr.buffer.write(error.response.result.stderr_raw)
        return _complain(f"{error.message}{_remedy(error, args)}")
    except ClientError as error:
        return _complain(f"{args.endpoint}: {error}")
    except (OSError, ValueError) as error:
        return _complain(str(error))
    finally:
        await channel.close()
    if args.json:
        print(json.dumps(_as_json(result, written), indent=2))
    else:
        sys.stdout.buffer.write(result.stdout)
        sys.stdout.flush()
        sys.stderr.buffer.write(result.stderr)
    for path in sorted(set(command.output_paths) - set(result.output_names)):
        _say(f"--output {path}: the command did not make it")
    # Whatever else a bot reports, an exit code has eight bits, and a failure must not become 0.
    return result.exit_code & 0xFF or (1 if result.exit_code else 0)


def _command_of(args: argparse.Namespace) -> RemoteCommand:
    """Raises ValueError that names the flag."""
    inputs: dict[str, Input] = {}
    for text in args.input:
        path = Path(text)
        if not path.exists():
            raise ValueError(f"--input {text}: there is no such file or folder")
        try:
            inputs["/".join(split_path(text)) or "."] = path
        except ValueError as error:
            raise ValueError(
                f"--input {text}: {error}; run this in a folder above all inputs, and name them from there"
            ) from None
    outputs = []
    for text in args.output:
        try:
            outputs.append("/".join(split_path(text)))
        except ValueError as error:
            raise ValueError(f"--output {text}: {error}; outputs go below the current folder") from None
    return RemoteCommand(
        arguments=args.arguments,
        environment=dict(args.env),
        inputs=inputs,
        output_paths=outputs,
        platform=args.property,
        timeout=args.timeout,
        do_not_cache=args.no_cache,
        mnemonic="Execute",
        target=Path(args.arguments[0]).name,
    )


async def _not_ready(channel: grpc.aio.Channel, args: argparse.Namespace) -> str | None:
    """Why nothing can be run there, found out in seconds; once it runs, outages are waited out."""
    request = GetCapabilitiesRequest(instance_name=args.instance)
    stub = CapabilitiesStub(channel)
    try:
        told = await stub.GetCapabilities(request, timeout=_CONNECT_TIMEOUT_S, wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            return (
                f"no answer from {args.endpoint} in {_CONNECT_TIMEOUT_S:.0f} s; start a server there "
                "(buildgrid-scheduler serve), or name another with --endpoint grpc://HOST:PORT"
            )
        return f"{args.endpoint} refuses --instance {args.instance!r}: {error.code().name}: {error.details()}"
    if not told.execution_capabilities.exec_enabled:
        return f"{args.endpoint} only stores; name a server that executes with --endpoint"
    return None


class _QueueNotice:
    """Says once that the command waits for a bot, when it does so for long."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> "_QueueNotice":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def on_stage(self, stage: ExecutionStage.Value.ValueType, _told: ExecuteOperationMetadata) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if stage == ExecutionStage.QUEUED:
            self._timer = asyncio.get_running_loop().call_later(_QUEUE_NOTICE_S, self._tell)

    def _tell(self) -> None:
        wanted = " ".join(f"--property {name}={value}" for name, value in self._args.property)
        _say(
            f"waiting for a bot{f' that offers {wanted}' if wanted else ''}; "
            f"start one: buildgrid-bot run --endpoint {self._args.endpoint}"
            + (f" --instance {self._args.instance}" if self._args.instance else "")
            + (f" {wanted}" if wanted else "")
        )


def _remedy(error: ExecutionFailed, args: argparse.Namespace) -> str:
    if error.missing:
        return f" ({', '.join(error.missing[:3])})"
    if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and args.timeout is not None:
        return "; give it more with --timeout"
    if (
        error.code in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT)
        and args.property
    ):
        return "; check --property against the server's property_set and what the bots were started with"
    return ""


def _as_json(result: CommandResult, written: list[Path]) -> dict[str, object]:
    return {
        "exit_code": result.exit_code,
        "cached": result.cached,
        "stdout": result.stdout.decode(errors="replace"),
        "stderr": result.stderr.decode(errors="replace"),
        "outputs": [path.as_posix() for path in written],
        "action_digest": digest_key(result.action_digest),
        "worker": result.metadata.worker,
        "queued_seconds": result.queued.total_seconds(),
        "executed_seconds": result.executed.total_seconds(),
        "message": result.message,
    }


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _seconds(text: str) -> timedelta:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _LONGEST_TIMEOUT_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0 and up to a week")
    return timedelta(seconds=seconds)


def _complain(message: str) -> int:
    _say(message)
    return FARM_FAILED


def _say(message: str) -> None:
    print(f"execute: {message}", file=sys.stderr)
