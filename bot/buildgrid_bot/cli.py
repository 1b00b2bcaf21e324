"""The command line of the bot: `buildgrid-bot run --endpoint grpc://HOST:PORT ...`."""

import asyncio
import logging
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from buildgrid_client.cas import CasClient
from buildgrid_client.channel import open_channel

from buildgrid_bot.action import ActionRunner
from buildgrid_bot.cache import FileCache
from buildgrid_bot.cas_health import CasHealth, CasNotOffered
from buildgrid_bot.disk import DiskWatch
from buildgrid_bot.install import run_install
from buildgrid_bot.log_streams import LogStreams
from buildgrid_bot.logs import configure_logging
from buildgrid_bot.options import Options, checked, option_parser, program_version
from buildgrid_bot.sandbox import Root, Sandbox, find_sandbox
from buildgrid_bot.session import BotSession
from buildgrid_bot.trouble import SessionRefused
from buildgrid_bot.worker_properties import ROOT, SANDBOX, describe

_log = logging.getLogger(__name__)
# How long a bot that leaves, with all its actions reported, still writes what they printed at the end.
STREAMS_SECONDS = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the bot until SIGTERM or SIGINT. For `console_scripts`.

    0 after an orderly end, 1 when the server does not want the bot, or its disk stays full, 2 when it cannot
    run as it was called, for example since there is no CAS where it looks for one.
    """
    parser = option_parser()
    arguments = parser.parse_args(argv)
    if arguments.command == "install":
        return run_install(arguments)
    configure_logging(form=arguments.log_format, level=arguments.log_level)
    try:
        options = checked(arguments)
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
        f"buildgrid-bot {program_version()}",
        options.slots,
        options.properties,
        [*options.worker_properties, (SANDBOX, sandbox.name), (ROOT, sandbox.root)],
    )
    channel = cas_channel = open_channel(options.endpoint, options.credentials, options.server_name)
    if options.cas_endpoint != options.endpoint:
        cas_channel = open_channel(options.cas_endpoint, options.credentials, options.server_name)
    logstream_channel = log_streams = None
    if options.logstream_endpoint is not None:
        logstream_channel = open_channel(options.logstream_endpoint, options.credentials)
        log_streams = LogStreams(logstream_channel)
    work = options.cache_dir / "work"
    runner = ActionRunner(
        CasClient(cas_channel, options.instance),
        cache,
        sandbox,
        work,
        bot_id=options.bot_id,
        slots=options.slots,
        log_streams=log_streams,
        used_cas=lambda could: health.action_ended(could),
    )
    session = BotSession(
        channel,
        options.instance,
        description,
        options.slots,
        runner.run,
        endpoint=options.endpoint,
    )
    health = CasHealth(
        cas_channel,
        options.instance,
        options.cas_endpoint,
        lambda wanted: session.take_work(wanted, "CAS"),
        given=options.cas_endpoint != options.endpoint,
    )
    first_look = asyncio.ensure_future(health.look())
    conversation = asyncio.ensure_future(_converse(first_look, health, session))
    disk: DiskWatch | None = None
    watch: asyncio.Task[None] | None = None
    if options.disk_bytes is not None:
        temporary = Path(tempfile.gettempdir())
        disk = DiskWatch(
            options.disk_bytes,
            cache,
            work,
            temporary,
            running=lambda: session.running,
            take_work=session.take_work,
        )
        watch = asyncio.create_task(disk.run())
        watch.add_done_callback(lambda task: None if task.cancelled() else session.terminate())
    killed = False

    def on_signal() -> None:
        nonlocal killed
        if terminating.is_set():
            killed = True
            conversation.cancel()
        terminating.set()
        first_look.cancel()
        session.terminate()

    terminating = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    _log.info(
        "bot %s for %s, %d slots, sandbox %s, root %s, cache %d bytes, log streams %s, properties %s",
        options.bot_id,
        options.endpoint,
        options.slots,
        sandbox.name,
        sandbox.root,
        options.cache_bytes,
        options.logstream_endpoint or "not written",
        " ".join(f"{key}={value}" for key, value in options.properties),
    )
    try:
        await conversation
    except SessionRefused as error:
        _log.error("%s", error)
        return 1
    except CasNotOffered as error:
        _log.error("%s", error)
        return 2
    except asyncio.CancelledError:
        if not killed:
            raise
        _log.warning("stopped before the server had heard of everything")
        return 128 + signal.SIGTERM
    finally:
        if disk is not None and watch is not None and not watch.done():
            disk.stop()
            watch.cancel()
            await asyncio.wait([watch])
        runner.close()
        if log_streams is not None and logstream_channel is not None:
            await log_streams.close(0.0 if killed else STREAMS_SECONDS)
            await logstream_channel.close()
        await channel.close()
        if cas_channel is not channel:
            await cas_channel.close()
    if watch is not None and not watch.cancelled():
        watch.result()  # of a look that failed
        return 1
    return 0


async def _converse(first_look: "asyncio.Future[None]", health: CasHealth, session: BotSession) -> None:
    """Until the bot has left. Raises CasNotOffered, or what `BotSession.run` does."""
    await asyncio.wait([first_look])
    if not first_look.cancelled():
        first_look.result()
    watch = asyncio.create_task(health.watch())
    watch.add_done_callback(lambda task: None if task.cancelled() else session.terminate())
    try:
        await session.run()
    finally:
        watch.cancel()
        await asyncio.wait([watch])
    if not watch.cancelled():
        watch.result()


if __name__ == "__main__":
    sys.exit(main())
