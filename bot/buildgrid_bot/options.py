"""The options of the bot: flags, what they default to, and what is wrong with them."""

import argparse
import hashlib
import os
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from buildgrid_client.channel import parse_endpoint
from buildgrid_client.credential_flags import add_credential_flags, credentials_of
from buildgrid_client.credentials import Credentials

from buildgrid_bot.disk import cache_share
from buildgrid_bot.install import add_install
from buildgrid_bot.sandbox import Root
from buildgrid_bot.worker_properties import (
    CAPACITY_CLASS,
    default_properties,
    parse_properties,
    with_defaults,
)

ENVIRONMENT = "BUILDGRID_BOT"
_CACHE_BYTES = 10 << 30
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", re.IGNORECASE)


@dataclass(frozen=True)
class Options:
    """The command line, checked."""

    endpoint: str
    cas_endpoint: str
    logstream_endpoint: str | None
    credentials: Credentials
    server_name: str | None
    instance: str
    properties: list[tuple[str, str]]
    worker_properties: list[tuple[str, str]]
    slots: int
    bot_id: str
    cache_dir: Path
    cache_bytes: int
    disk_bytes: int | None
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
    if arguments.tls_server_name and not any(parse_endpoint(each)[1] for each in (endpoint, cas_endpoint)):
        raise ValueError(f"--tls-server-name: {endpoint} is without TLS; name it grpcs://, or leave it out")
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
    disk_bytes = parse_size(arguments.disk_bytes, "--disk-bytes") if arguments.disk_bytes else None
    if disk_bytes == 0:
        raise ValueError("--disk-bytes: 0 is no room at all; give more, or leave it out")
    return Options(
        endpoint=endpoint,
        cas_endpoint=cas_endpoint,
        logstream_endpoint=logstream_endpoint,
        credentials=credentials,
        server_name=arguments.tls_server_name or None,
        instance=arguments.instance,
        properties=properties,
        worker_properties=worker_properties,
        slots=arguments.slots,
        bot_id=arguments.bot_id or default_bot_id(cache_dir),
        cache_dir=cache_dir,
        cache_bytes=_cache_bytes(arguments.cache_bytes, disk_bytes),
        disk_bytes=disk_bytes,
        sandbox_paths=arguments.sandbox_path,
        root=Root(arguments.root),
    )


def _cache_bytes(text: str, disk_bytes: int | None) -> int:
    if disk_bytes is None:
        return parse_size(text, "--cache-bytes") if text else _CACHE_BYTES
    most = cache_share(disk_bytes)
    return min(parse_size(text, "--cache-bytes"), most) if text else most


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
    run = commands.add_parser(
        "run",
        help="take actions from a scheduler and run them, until SIGTERM",
        description="Each flag may come from the variable that is named with it; a flag counts before it. "
        "Variables of repeatable flags have a value on each line.",
    )
    _add_farm(run.add_argument)
    _add_machine(run.add_argument, cache_home)
    add_credential_flags(run, ENVIRONMENT)
    add_install(commands)
    return parser


def _add_farm(add: Callable[..., Any]) -> None:
    """Whom the bot works for, and what it says of itself there."""
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
        "run (default: it is not) [BUILDGRID_BOT_LOGSTREAM_ENDPOINT]",
    )
    add(
        "--tls-server-name",
        default=_from_environment("TLS_SERVER_NAME"),
        metavar="NAME",
        help="for grpcs://: the name in the certificate of scheduler and CAS, if it is not the host of the "
        "endpoint [BUILDGRID_BOT_TLS_SERVER_NAME]",
    )
    add(
        "--instance",
        default=_from_environment("INSTANCE"),
        help="instance name (default: the empty one) [BUILDGRID_BOT_INSTANCE]",
    )
    add(
        "--property",
        action=_Repeatable,
        default=_lines("PROPERTIES"),
        metavar="KEY=VALUE",
        help="what actions are matched against; repeatable (OSFamily and ISA have this machine's as default) "
        "[BUILDGRID_BOT_PROPERTIES]",
    )
    add(
        "--worker-property",
        action=_Repeatable,
        default=_lines("WORKER_PROPERTIES"),
        metavar="KEY=VALUE",
        help="told to the scheduler, but not matched; repeatable [BUILDGRID_BOT_WORKER_PROPERTIES]",
    )
    add(
        "--slots",
        type=int,
        default=_from_environment("SLOTS") or 1,
        help="actions at once (default: 1) [BUILDGRID_BOT_SLOTS]",
    )
    add(
        "--bot-id",
        default=_from_environment("BOT_ID"),
        help="default: made of host name and cache directory [BUILDGRID_BOT_BOT_ID]",
    )
    add(
        "--capacity-class",
        default=_from_environment("CAPACITY_CLASS"),
        help="for example spot or on-demand; see the scheduler's retries [BUILDGRID_BOT_CAPACITY_CLASS]",
    )


def _add_machine(add: Callable[..., Any], cache_home: str) -> None:
    """What the bot may do where it runs."""
    add(
        "--cache-dir",
        default=_from_environment("CACHE_DIR") or f"{cache_home}/buildgrid-bot",
        help="inputs and work (default: %(default)s) [BUILDGRID_BOT_CACHE_DIR]",
    )
    add(
        "--cache-bytes",
        default=_from_environment("CACHE_BYTES"),
        metavar="SIZE",
        help="bound of the inputs kept (default: 10G, or 70 %% of --disk-bytes, which is the most) "
        "[BUILDGRID_BOT_CACHE_BYTES]",
    )
    add(
        "--disk-bytes",
        default=_from_environment("DISK_BYTES"),
        metavar="SIZE",
        help="what there may be in --cache-dir and the directory of temporary files together: at 85 %% of it "
        "no more actions are taken (default: as much as fits) [BUILDGRID_BOT_DISK_BYTES]",
    )
    add(
        "--sandbox",
        **_choice("SANDBOX", ("auto", "bubblewrap", "none")),
        help="auto: bubblewrap where it works (default) [BUILDGRID_BOT_SANDBOX]",
    )
    add(
        "--sandbox-path",
        action=_Repeatable,
        default=_lines("SANDBOX_PATHS"),
        metavar="PATH",
        help="seen read-only in the sandbox besides /usr, /bin, /lib*, /etc and /opt; repeatable "
        "[BUILDGRID_BOT_SANDBOX_PATHS]",
    )
    add(
        "--root",
        **_choice("ROOT", (Root.SYSTEM.value, Root.INPUT.value)),
        help="what an action sees as its /: the system of this machine, read-only, with the inputs in /build "
        "(default), or its input root, writable, as BuildStream wants it [BUILDGRID_BOT_ROOT]",
    )
    add(
        "--log-format",
        **_choice("LOG_FORMAT", ("text", "json")),
        help="text for people, json for collectors (default: text) [BUILDGRID_BOT_LOG_FORMAT]",
    )
    add(
        "--log-level",
        **_choice("LOG_LEVEL", ("info", "debug", "warning", "error")),
        help="default: info [BUILDGRID_BOT_LOG_LEVEL]",
    )


class _Repeatable(argparse.Action):
    """The first one takes the place of what the variable says, the others are added."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Keeps the value."""
        given = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [*(() if given is self.default else given), values])


def _choice(variable: str, words: tuple[str, ...]) -> dict[str, Any]:
    """One of the words, of which the first is the default. argparse would take anything from a variable."""

    def word(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(words)}")
        return text

    default = _from_environment(variable) or words[0]
    return {"type": word, "default": default, "metavar": f"{{{','.join(words)}}}"}


def _lines(variable: str) -> list[str]:
    return [line for line in _from_environment(variable).split("\n") if line]


def program_version() -> str:
    """Of the package that the bot is part of."""
    return metadata.version("buildgrid-kubernetes")


def _from_environment(name: str) -> str:
    return os.environ.get(f"{ENVIRONMENT}_{name}", "")
