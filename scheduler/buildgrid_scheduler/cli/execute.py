"""`buildgrid-scheduler execute`: runs one command on the farm as if it ran here.

The command's output goes to ours, its outputs appear below the current folder, and its exit code is ours.
What the farm itself could not do ends with exit code 125, so that it is not mistaken for the command's. A
command that succeeds without making an output that was asked for ends with 1.
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
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import GetCapabilitiesRequest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import CapabilitiesStub

from buildgrid_scheduler.cli.queue_watch import NoBotError, QueueWatch

DEFAULT_ENDPOINT = "grpc://127.0.0.1:50051"
FARM_FAILED = 125
OUTPUT_MISSING = 1
_CONNECT_TIMEOUT_S = 10.0
_LONGEST_TIMEOUT_S = 7 * 24 * 3600.0


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand to the program's."""
    parser = subparsers.add_parser(
        "execute",
        help="run one command on the farm",
        description="Run one command on the farm, as if it ran here: its output and its exit code are ours.",
        epilog="Nothing but the inputs and variables named here reaches the command. Exit code 125: the farm "
        "could not run it; 1, of a command that succeeded: it did not make an --output. Example: "
        "buildgrid-scheduler execute --input src --output hello "
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
    add("--wait", type=_seconds, metavar="S", help="give up when no bot has taken it after S seconds")
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
        return _fail(args, f"--endpoint: {error}")
    try:
        command = _command_of(args)
    except ValueError as error:
        return _fail(args, str(error))
    try:
        return asyncio.run(_run(args, command))
    except KeyboardInterrupt:
        _say("interrupted; the operation was cancelled")
        return 130


async def _run(args: argparse.Namespace, command: RemoteCommand) -> int:
    channel = open_channel(args.endpoint)
    try:
        if problem := await _not_ready(channel, args):
            return _fail(args, problem)
        cas = CasClient(channel, args.instance)
        execution = ExecutionClient(channel, args.instance, tool_name="buildgrid-scheduler execute")
        runner = RemoteRunner(cas, execution)
        with QueueWatch(args) as watch:
            result = await runner.run(
                command, skip_cache_lookup=args.skip_cache_lookup or args.no_cache, on_stage=watch.on_stage
            )
        written = await runner.write_outputs(result, Path())
    except NoBotError as error:
        return _fail(args, str(error))
    except ExecutionFailed as error:
        return _fail(args, f"{error.message}{_remedy(error, args)}", error)
    except ClientError as error:
        return _fail(args, f"{args.endpoint}: {error}")
    except (OSError, ValueError) as error:
        return _fail(args, str(error))
    finally:
        await channel.close()
    missing = sorted(set(command.output_paths) - set(result.output_names))
    # Whatever else a bot reports, an exit code has eight bits, and a failure must not become 0.
    code = result.exit_code & 0xFF or (1 if result.exit_code else 0)
    code = code or (OUTPUT_MISSING if missing else 0)
    if args.json:
        print(json.dumps({**_as_json(result, written), "missing_outputs": missing}, indent=2))
    else:
        sys.stdout.buffer.write(result.stdout)
        sys.stdout.flush()
        sys.stderr.buffer.write(result.stderr)
    for path in missing:
        _say(f"--output {path}: the command did not make it")
    return code


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


def _fail(args: argparse.Namespace, message: str, error: ExecutionFailed | None = None) -> int:
    """The farm could not run it: say so, with what the command had said until then."""
    said = None if error is None or error.response is None else error.response.result
    stdout, stderr = (b"", b"") if said is None else (said.stdout_raw, said.stderr_raw)
    if args.json:
        told = {
            "exit_code": FARM_FAILED,
            "error": {"message": message, "status": error.code.name if error is not None else None},
            "stdout": stdout.decode(errors="replace"),
            "stderr": stderr.decode(errors="replace"),
        }
        print(json.dumps(told, indent=2))
    else:
        sys.stdout.buffer.write(stdout)
        sys.stdout.flush()
        sys.stderr.buffer.write(stderr)
    _say(message)
    return FARM_FAILED


def _say(message: str) -> None:
    print(f"execute: {message}", file=sys.stderr)
