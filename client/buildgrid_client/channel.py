"""Channels to a farm: one place for endpoints, keepalive and message limits."""

import ipaddress
import re

import grpc

from buildgrid_client.credentials import NO_CREDENTIALS, Credentials
from buildgrid_client.reloading_channel import ReloadingChannel

# BatchReadBlobs and BatchUpdateBlobs carry up to 4 MiB of blobs, and their envelope comes on top.
MAX_MESSAGE_BYTES = 16 << 20

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A peer that vanished without a word (its node lost power) is noticed within 40 s, also in a long poll.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # without it gRPC waits a minute, whatever the line above says
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC's own reconnect backoff grows to two minutes, longer than most outages of a rolling update.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 3_000),
)

_ENDPOINT = re.compile(
    r"(?P<scheme>grpcs?)://(?P<target>(?:\[[0-9A-Fa-f:.]+\]|[^\s/:?#\[\]]+):(?P<port>\d{1,5}))/?"
)


def parse_endpoint(endpoint: str) -> tuple[str, bool]:
    """The gRPC target and whether to use TLS, of `grpc://HOST:PORT` or `grpcs://HOST:PORT`.

    Raises ValueError with what is expected for anything else.
    """
    match = _ENDPOINT.fullmatch(endpoint)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise ValueError(
            f"endpoint {endpoint!r} is not grpc://HOST:PORT (or grpcs://HOST:PORT for TLS), "
            "for example grpc://127.0.0.1:50051"
        )
    return match["target"], match["scheme"] == "grpcs"


def is_loopback(endpoint: str) -> bool:
    """Whether what is sent there stays on this machine. Raises ValueError for a bad endpoint."""
    host = parse_endpoint(endpoint)[0].rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_channel(
    endpoint: str, credentials: Credentials = NO_CREDENTIALS, server_name: str | None = None
) -> grpc.aio.Channel:
    """A channel to `grpc://HOST:PORT`, or `grpcs://HOST:PORT` for TLS, whose calls show these credentials.

    Their files may change; see ReloadingChannel. A token is sent without TLS, too, for meshes that encrypt on
    their own. `server_name` is what the server's certificate must be for; None: HOST. Must be called, and
    later closed, in a running event loop. It connects on first use. Raises ValueError for a bad endpoint,
    OSError or ValueError for a file that cannot be used.
    """
    target, secure = parse_endpoint(endpoint)
    name = () if server_name is None else (("grpc.ssl_target_name_override", server_name),)

    def connect(tls: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
        if tls is None:
            return grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        return grpc.aio.secure_channel(target, tls, options=(*CHANNEL_OPTIONS, *name))

    if credentials.token is None and not secure:
        return connect(None)
    return ReloadingChannel(connect, credentials, who=endpoint, secure=secure)
