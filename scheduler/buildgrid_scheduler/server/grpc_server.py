"""The gRPC server itself: options, ports."""

import random
from datetime import timedelta

import grpc

from buildgrid_scheduler.config.model import Config

MAX_HEADERS = 64 * 1024
"""Bytes of the headers of a call."""
MAX_STREAMS = 10_000
"""Calls at once on one connection, each of which costs about 20 kB: a proxy may carry a whole farm's."""
MAX_PENDING = 50_000
"""Calls that wait for the event loop to look at them. Above this gRPC answers CANCELLED to more and more, and
to all above twice as many. Its own limit of 1,000 is less than what a large build, or a fleet of bots that
comes back after a restart, sends in the same second.
"""
_OTHER_PORT = "choose another with --listen or listen"


class StartError(Exception):
    """The replica cannot start; the message names the setting and the remedy."""


def bind(
    server: grpc.aio.Server,
    address: str,
    credentials: grpc.ServerCredentials | None,
    remedy: str = _OTHER_PORT,
) -> int:
    """Bind an address; returns the port. Raises StartError."""
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise StartError(not_bound(address, remedy)) from error


def not_bound(address: str, remedy: str = _OTHER_PORT) -> str:
    """What to say of an address that is not to be had."""
    return f"listen: {address} cannot be bound: it is in use, or not an address of this machine; {remedy}"


def server_options(config: Config) -> list[tuple[str, int]]:
    """For long-lived servers behind load balancers (gRPC A9), and for clients of all manners."""
    grpc_config = config.grpc
    jitter = random.uniform(0.9, 1.1)  # noqa: S311 - no secret
    return [
        ("grpc.max_receive_message_length", grpc_config.max_message_size),
        ("grpc.max_send_message_length", grpc_config.max_message_size),
        ("grpc.max_connection_age_ms", _milliseconds(grpc_config.max_connection_age * jitter)),
        ("grpc.max_connection_age_grace_ms", _milliseconds(grpc_config.max_connection_age_grace)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.keepalive_time_ms", _milliseconds(grpc_config.keepalive_time)),
        ("grpc.keepalive_timeout_ms", _milliseconds(grpc_config.keepalive_timeout)),
        # Without this one gRPC waits a minute for the answer, whatever the timeout above says.
        ("grpc.http2.ping_timeout_ms", _milliseconds(grpc_config.keepalive_timeout)),
        ("grpc.server_handshake_timeout_ms", _milliseconds(grpc_config.handshake_timeout)),
        # Bots with many slots send what they know of each lease in headers: see docs/protocol.md.
        ("grpc.max_metadata_size", MAX_HEADERS),
        ("grpc.absolute_max_metadata_size", 2 * MAX_HEADERS),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        ("grpc.server.max_pending_requests", MAX_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", 2 * MAX_PENDING),
        ("grpc.so_reuseport", 0),
    ]


def _milliseconds(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)
