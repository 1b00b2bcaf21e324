"""The options of the bot: flags, what they default to, and what is wrong with them."""

import argparse
import hashlib
import os
import re
import socket
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from buildgrid_client.channel import parse_endpoint
from buildgrid_client.credential_flags import add_credential_flags, credentials_of
from buildgrid_client.credentials import Credentials

from buildgrid_bot.sandbox import Root
from buildgrid_bot.worker_properties import (
    CAPACITY_CLASS,
    default_properties,
    parse_properties,
    with_defaults,
)

ENVIRONMENT = "BUILDGRID_BOT"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", re.IGNORECASE)


@dataclass(frozen=True)
class Options:
    """The command line, checked."""

    endpoint: str
    cas_endpoint: str
    logstream_endpoint: str | None
    credentials: Credentials
    instance: str
    properties: list[tuple[str, str]]
    worker_properties: list[tuple[str, str]]
    slots: int
    bot_id: str
    cache_dir: Path
    cache_bytes: int
    sandbox_paths: list[str]
    root: Root


def checked(arguments: argparse.Namespace) -> Options:
    """The options that these arguments are. Raises ValueError naming the flag and the remedy."""
    endpoint = arguments.endpoint
    if not endpoint:
        raise ValueError("--endpoint is missing: give the scheduler's address, grpc://HOST:PORT")
    cas_endpoint = arguments.cas_endpoint or endpoint
    logstream_endpoint = arguments.logstream_endpoint or None
    endpoints: dict[str, None] = {}
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
        endpoints[value] = None
    credentials = credentials_of(arguments, endpoints)
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
        credentials=credentials,
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


def option_parser() -> argparse.ArgumentParser:
    """Of the whole command line."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    parser = argparse.ArgumentParser(prog="buildgrid-bot", description="Runs build actions for a scheduler.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {program_version()}")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="take actions from a scheduler and run them, until SIGTERM")
    add = run.add_argument
    add(
        "--endpoint",
        default=_from_environment("ENDPOINT"),
        help="the scheduler: grpc://HOST:PORT, or grpcs:// for TLS [BUILDGRID_BOT_ENDPOINT]",
    )
    add(
        "--cas-endpoint",
        default=_from_environment("CAS_ENDPOINT"),
        help="the CAS, if it is not the scheduler's [BUILDGRID_BOT_CAS_ENDPOINT]",
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
    add("--log-format", choices=("text", "json"), default="text", help="text for people, json for collectors")
    add("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    add_credential_flags(run, ENVIRONMENT)
    return parser


def program_version() -> str:
    """Of the package that the bot is part of."""
    return metadata.version("buildgrid-kubernetes")


def _from_environment(name: str) -> str:
    return os.environ.get(f"{ENVIRONMENT}_{name}", "")
