"""The command line of the bot: `buildgrid-bot run --endpoint grpc://HOST:PORT ...`."""

import argparse
import asyncio
import hashlib
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from buildgrid_client.cas import CasClient
from buildgrid_client.channel import open_channel, parse_endpoint

from buildgrid_bot.action import ActionRunner
from buildgrid_bot.cache import FileCache
from buildgrid_bot.log_streams import LogStreams
from buildgrid_bot.sandbox import Root, Sandbox, find_sandbox
from buildgrid_bot.session import BotSession
from buildgrid_bot.trouble import SessionRefused
from buildgrid_bot.worker_properties import (
    CAPACITY_CLASS,
    ROOT,
    SANDBOX,
    default_properties,
    describe,
    parse_properties,
    with_defaults,
)

_log = logging.getLogger(__name__)
# How long a bot that leaves, with all its actions reported, still writes what they printed at the end.
STREAMS_SECONDS = 5.0
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", re.IGNORECASE)


@dataclass(frozen=True)
class Options:
    """The command line, checked."""

    endpoint: str
    cas_endpoint: str
    logstream_endpoint: str | None
    instance: str
    properties: list[tuple[str, str]]
    worker_properties: list[tuple[str, str]]
    slots: int
    bot_id: str
    cache_dir: Path
    cache_bytes: int
    sandbox_paths: list[str]
    root: Root


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the bot until SIGTERM or SIGINT; 0 after an orderly end, 1 when the server does not want the bot.

    For `console_scripts`.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    logging.basicConfig(
        level=arguments.log_level.upper(),
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    try:
        options = _options(arguments)
    except ValueError as error:
        parser.error(str(error))
    try:
        sandbox = find_sandbox(arguments.sandbox, options.sandbox_paths, options.root)
    except RuntimeError as error:
        otherwise = "--root system" if options.root is Root.INPUT else "--sandbox none"
        wanted = "--root input" if options.root is Root.INPUT else "--sandbox bubblewrap"
        parser.error(
            f"{wanted}: {error}; install bubblewrap and allow unprivileged user namespaces, "
            f"or use {otherwise}"
        )
    try:
        cache = FileCache(options.cache_dir, options.cache_bytes)
    except BlockingIOError:
        parser.error(f"--cache-dir: another bot uses {options.cache_dir}; give each bot one of its own")
    except OSError as error:
        parser.error(f"--cache-dir: {error}; give a directory that this user may write")
    try:
        return asyncio.run(_run(options, sandbox, cache))
    finally:
        cache.close()


async def _run(options: Options, sandbox: Sandbox, cache: FileCache) -> int:
    description = describe(
        options.bot_id,
        f"buildgrid-bot {metadata.version('buildgrid-kubernetes')}",
        options.slots,
        options.properties,
        [*options.worker_properties, (SANDBOX, sandbox.name), (ROOT, sandbox.root)],
    )
    channel = open_channel(options.endpoint)
    cas_channel = channel if options.cas_endpoint == options.endpoint else open_channel(options.cas_endpoint)
    logstream_channel = log_streams = None
    if options.logstream_endpoint is not None:
        logstream_channel = open_channel(options.logstream_endpoint)
        log_streams = LogStreams(logstream_channel)
    runner = ActionRunner(
        CasClient(cas_channel, options.instance),
        cache,
        sandbox,
        options.cache_dir / "work",
        bot_id=options.bot_id,
        slots=options.slots,
        log_streams=log_streams,
    )
    session = BotSession(channel, options.instance, description, options.slots, runner.run)
    conversation = asyncio.ensure_future(session.run())
    killed = False

    def on_signal() -> None:
        nonlocal killed
        if terminating.is_set():
            killed = True
            conversation.cancel()
        terminating.set()
        session.terminate()

    terminating = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    _log.info(
        "bot %s for %s, %d slots, sandbox %s, root %s, log streams %s, properties %s",
        options.bot_id,
        options.endpoint,
        options.slots,
        sandbox.name,
        sandbox.root,
        options.logstream_endpoint or "not written",
        " ".join(f"{key}={value}" for key, value in options.properties),
    )
    try:
        await conversation
    except SessionRefused as error:
        _log.error("%s", error)
        return 1
    except asyncio.CancelledError:
        if not killed:
            raise
        _log.warning("stopped before the server had heard of everything")
        return 128 + signal.SIGTERM
    finally:
        runner.close()
        if log_streams is not None and logstream_channel is not None:
            await log_streams.close(0.0 if killed else STREAMS_SECONDS)
            await logstream_channel.close()
        await channel.close()
        if cas_channel is not channel:
            await cas_channel.close()
    return 0


def _options(arguments: argparse.Namespace) -> Options:
    """Raises ValueError naming the flag and the remedy."""
    endpoint = arguments.endpoint
    if not endpoint:
        raise ValueError("--endpoint is missing: give the scheduler's address, grpc://HOST:PORT")
    cas_endpoint = arguments.cas_endpoint or endpoint
    logstream_endpoint = arguments.logstream_endpoint or None
    for flag, value in (
        ("--endpoint", endpoint),
        ("--cas-endpoint", cas_endpoint),
        ("--logstream-endpoint", logstream_endpoint),
    ):
        if value is None:
            continue
        try:
            parse_endpoint(value)
        except ValueError as error:
            raise ValueError(f"{flag}: {error}") from error
    try:
        properties = with_defaults(parse_properties(arguments.property), default_properties())
    except ValueError as error:
        raise ValueError(f"--property: {error}") from error
    try:
        worker_properties = parse_properties(arguments.worker_property)
    except ValueError as error:
        raise ValueError(f"--worker-property: {error}") from error
    if arguments.capacity_class:
        worker_properties.append((CAPACITY_CLASS, arguments.capacity_class))
    if not 1 <= arguments.slots <= 1024:
        raise ValueError(f"--slots: {arguments.slots} is not between 1 and 1024")
    for path in arguments.sandbox_path:
        if not Path(path).is_absolute() or not Path(path).exists():
            raise ValueError(f"--sandbox-path: {path} is not an absolute path of something that exists")
    cache_dir = Path(arguments.cache_dir).expanduser().absolute()
    return Options(
        endpoint=endpoint,
        cas_endpoint=cas_endpoint,
        logstream_endpoint=logstream_endpoint,
        instance=arguments.instance,
        properties=properties,
        worker_properties=worker_properties,
        slots=arguments.slots,
        bot_id=arguments.bot_id or default_bot_id(cache_dir),
        cache_dir=cache_dir,
        cache_bytes=parse_size(arguments.cache_bytes, "--cache-bytes"),
        sandbox_paths=arguments.sandbox_path,
        root=Root(arguments.root),
    )


def parse_size(text: str, flag: str) -> int:
    """Bytes of `500M`, `20G` and the like (powers of 1024). Raises ValueError naming the flag."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{flag}: {text!r} is not a size; give bytes, or for example 500M or 20G")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


def default_bot_id(cache_dir: Path) -> str:
    """The same after a restart, another for a second bot on this machine, which has a cache of its own."""
    return f"{socket.gethostname()}-{hashlib.sha256(os.fsencode(cache_dir)).hexdigest()[:8]}"


def _parser() -> argparse.ArgumentParser:
    cache_home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    parser = argparse.ArgumentParser(prog="buildgrid-bot", description="Runs build actions for a scheduler.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="take actions from a scheduler and run them, until SIGTERM")
    add = run.add_argument
    add(
        "--endpoint",
        default=_from_environment("ENDPOINT"),
        help="the scheduler: grpc://HOST:PORT, or grpcs:// for TLS",
    )
    add(
        "--cas-endpoint",
        default=_from_environment("CAS_ENDPOINT"),
        help="the CAS, if it is not the scheduler's",
    )
    add(
        "--logstream-endpoint",
        default=_from_environment("LOGSTREAM_ENDPOINT"),
        help="the log stream service, where the scheduler has one: output is written there while commands "
        "run (default: it is not)",
    )
    add("--instance", default=_from_environment("INSTANCE"), help="instance name (default: the empty one)")
    add(
        "--property",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="what actions are matched against; repeatable (OSFamily and ISA have this machine's as default)",
    )
    add(
        "--worker-property",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="told to the scheduler, but not matched; repeatable",
    )
    add("--slots", type=int, default=1, help="actions at once (default: 1)")
    add(
        "--bot-id", default=_from_environment("BOT_ID"), help="default: made of host name and cache directory"
    )
    add("--cache-dir", default=f"{cache_home}/buildgrid-bot", help="inputs and work (default: %(default)s)")
    add(
        "--cache-bytes", default="10G", metavar="SIZE", help="bound of the inputs kept (default: %(default)s)"
    )
    add(
        "--sandbox",
        choices=("auto", "bubblewrap", "none"),
        default="auto",
        help="auto: bubblewrap where it works (default)",
    )
    add(
        "--sandbox-path",
        action="append",
        default=[],
        metavar="PATH",
        help="seen read-only in the sandbox besides /usr, /bin, /lib*, /etc and /opt; repeatable",
    )
    add(
        "--root",
        choices=[root.value for root in Root],
        default=Root.SYSTEM.value,
        help="what an action sees as its /: the system of this machine, read-only, with the inputs in /build "
        "(default), or its input root, writable, as BuildStream wants it",
    )
    add("--capacity-class", default="", help="for example spot or on-demand; see the scheduler's retries")
    add("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    return parser


def _from_environment(name: str) -> str:
    return os.environ.get(f"BUILDGRID_BOT_{name}", "")


if __name__ == "__main__":
    sys.exit(main())
