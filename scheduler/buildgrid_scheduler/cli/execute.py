"""`buildgrid-scheduler execute`: runs one command on the farm as if it ran here.

The command's output goes to ours, its outputs appear below the current folder, and its exit code is ours.
What the farm itself could not do ends with exit code 125, so that it is not mistaken for the command's. A
command that succeeds without making an output that was asked for ends with 1. A flag that cannot be used ends
with 2, before any server is asked, as in all our programs.
"""

import argparse
import asyncio
import json
import math
import os
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import grpc
from buildgrid_client.cas import CasClient
from buildgrid_client.channel import open_channel, parse_endpoint
from buildgrid_client.credential_flags import add_credential_flags, credentials_of
from buildgrid_client.credentials import Credentials
from buildgrid_client.digests import digest_key
from buildgrid_client.errors import CasError
from buildgrid_client.execution import ExecutionClient
from buildgrid_client.execution_errors import ExecutionFailed
from buildgrid_client.remote_command import CommandResult, RemoteCommand, RemoteRunner
from buildgrid_client.tree import Input, split_path

from buildgrid_scheduler.cli.connecting import Door, no_storage, refusal, why_no_storage, why_not
from buildgrid_scheduler.cli.outage_watch import OutageWatch
from buildgrid_scheduler.cli.queue_watch import NoBotError, QueueWatch

DEFAULT_ENDPOINT = "grpc://127.0.0.1:50051"
FARM_FAILED = 125
OUTPUT_MISSING = 1
WRONG_USAGE = 2
_ENVIRONMENT = "BUILDGRID"
_CONNECT_TIMEOUT = timedelta(seconds=30)
_LONGEST_TIMEOUT_S = 7 * 24 * 3600.0


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand to the program's."""
    parser = subparsers.add_parser(
        "execute",
        help="run one command on the farm",
        description="Run one command on the farm, as if it ran here: its output and its exit code are ours.",
        epilog="Nothing but the inputs and variables named here reaches the command. Exit code 125: the farm "
        "could not run it; 2, and nothing was run: a flag cannot be used; 1, of a command that succeeded: it "
        "did not make an --output. Example: "
        "buildgrid-scheduler execute --input src --output hello "
        "--env PATH=/usr/bin:/bin -- gcc -o hello src/hello.c",
    )
    add = parser.add_argument
    add(
        "--endpoint",
        default=_from_environment("ENDPOINT") or DEFAULT_ENDPOINT,
        metavar="URL",
        help="the server, grpc://HOST:PORT, or grpcs:// for TLS (default: %(default)s) [BUILDGRID_ENDPOINT]",
    )
    add(
        "--cas-endpoint",
        default=_from_environment("CAS_ENDPOINT") or None,
        metavar="URL",
        help="the storage, where that is another server (default: --endpoint) [BUILDGRID_CAS_ENDPOINT]",
    )
    add(
        "--instance",
        default=_from_environment("INSTANCE"),
        metavar="NAME",
        help="instance name (default: the empty one) [BUILDGRID_INSTANCE]",
    )
    add("--property", action="append", default=[], type=_pair, metavar="K=V", help="what the bot must offer")
    add("--input", action="append", default=[], metavar="PATH", help="file or folder the command reads")
    add("--output", action="append", default=[], metavar="PATH", help="file or folder to bring back")
    add("--env", action="append", default=[], type=_pair, metavar="K=V", help="environment variable")
    add("--timeout", type=_seconds, metavar="S", help="seconds after which the command is killed")
    add(
        "--connect-timeout",
        type=_seconds,
        default=_CONNECT_TIMEOUT,
        metavar="S",
        help=f"how long a server may take to answer first (default: {_CONNECT_TIMEOUT.total_seconds():g})",
    )
    add("--wait", type=_seconds, metavar="S", help="give up when no bot has taken it after S seconds")
    add("--no-cache", action="store_true", help="neither use a stored result nor store this one")
    add("--skip-cache-lookup", action="store_true", help="run it even if its result is stored, and store it")
    add("--json", action="store_true", help="print the result as JSON instead of the command's output")
    add("arguments", nargs="+", metavar="COMMAND", help="the command and its arguments, after --")
    add_credential_flags(parser, _ENVIRONMENT)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    endpoints = {"--endpoint": args.endpoint, "--cas-endpoint": args.cas_endpoint or args.endpoint}
    for flag, endpoint in endpoints.items():
        try:
            parse_endpoint(endpoint)
        except ValueError as error:
            return _end_without(args, f"{flag}: {error}", code=WRONG_USAGE)
    try:
        credentials = credentials_of(args, list(dict.fromkeys(endpoints.values())))
        command = _command_of(args)
    except ValueError as error:
        return _end_without(args, str(error), code=WRONG_USAGE)
    try:
        return asyncio.run(_run(args, command, credentials))
    except KeyboardInterrupt:
        _say("interrupted; the operation was cancelled")
        return 130


async def _run(args: argparse.Namespace, command: RemoteCommand, credentials: Credentials) -> int:
    scheduler = storage = Door(open_channel(args.endpoint, credentials), args.endpoint)
    try:
        if problem := await why_not(scheduler, args):
            return _end_without(args, problem)
        if args.cas_endpoint not in (None, args.endpoint):
            channel = open_channel(args.cas_endpoint, credentials)
            storage = Door(channel, args.cas_endpoint, "--cas-endpoint")
            if problem := await why_no_storage(storage, args):
                return _end_without(args, problem)
        cas = CasClient(storage.channel, args.instance)
        execution = ExecutionClient(scheduler.channel, args.instance, tool_name="buildgrid-scheduler execute")
        runner = RemoteRunner(cas, execution)
        with QueueWatch(args) as queue, closing(OutageWatch(args.endpoint, queue)) as outage:
            result = await runner.run(
                command,
                skip_cache_lookup=args.skip_cache_lookup or args.no_cache,
                on_stage=queue.on_stage,
                on_outage=outage.on_outage,
            )
        written = await runner.write_outputs(result, Path())
    except NoBotError as error:
        return _end_without(args, str(error))
    except ExecutionFailed as error:
        return _end_without(args, f"{error.message}{_remedy(error, args)}", error)
    except CasError as error:
        if error.code is grpc.StatusCode.UNIMPLEMENTED:
            return _end_without(args, no_storage(storage))
        return _end_without(args, f"{storage.endpoint}: {error}{refusal(error.code, args)}")
    except (OSError, ValueError) as error:
        return _end_without(args, str(error))
    finally:
        for door in {scheduler, storage}:
            await door.channel.close()
    return _end(args, command, result, written)


def _end(args: argparse.Namespace, command: RemoteCommand, result: CommandResult, written: list[Path]) -> int:
    """The command ran: show what it said, and end as it did."""
    missing = sorted(set(command.output_paths) - set(result.output_names))
    # Whatever else a bot reports, an exit code has eight bits, and a failure must not become 0.
    code = result.exit_code & 0xFF or (1 if result.exit_code else 0)
    problems = [f"--output {path}: the command did not make it" for path in missing]
    if problems and not code:
        code = OUTPUT_MISSING
    if args.json:
        told = {"exit_code": code, **_as_json(result, written), "missing_outputs": missing}
        if problems and not result.exit_code:
            told["error"] = {"message": "; ".join(problems), "status": None}
        print(json.dumps(told, indent=2))
    else:
        sys.stdout.buffer.write(result.stdout)
        sys.stdout.flush()
        sys.stderr.buffer.write(result.stderr)
    for problem in problems:
        _say(problem)
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
    return refusal(error.code, args)


def _as_json(result: CommandResult, written: list[Path]) -> dict[str, object]:
    return {
        "command_exit_code": result.exit_code,
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


def _from_environment(name: str) -> str:
    return os.environ.get(f"{_ENVIRONMENT}_{name}", "")


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


def _end_without(
    args: argparse.Namespace, message: str, error: ExecutionFailed | None = None, *, code: int = FARM_FAILED
) -> int:
    """There is no result: say why, with what the command had said until then."""
    said = None if error is None or error.response is None else error.response.result
    stdout, stderr = (b"", b"") if said is None else (said.stdout_raw, said.stderr_raw)
    if args.json:
        told = {
            "exit_code": code,
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
    return code


def _say(message: str) -> None:
    print(f"execute: {message}", file=sys.stderr)
