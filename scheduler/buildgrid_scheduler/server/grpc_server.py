"""The gRPC server itself: options, ports."""

import random

import grpc

from buildgrid_scheduler.config.model import Config


class StartError(Exception):
    """The replica cannot start; the message names the setting and the remedy."""


def bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    """Bind `listen`; returns the port. Raises StartError."""
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise StartError(
            f"listen: {address} cannot be bound: it is in use, or not an address of this machine; "
            "choose another with --listen or listen"
        ) from error


def server_options(config: Config) -> list[tuple[str, int]]:
    """For long-lived servers behind load balancers (gRPC A9)."""
    age = config.grpc.max_connection_age.total_seconds() * random.uniform(0.9, 1.1)  # noqa: S311 - jitter
    grace = config.grpc.max_connection_age_grace.total_seconds()
    return [
        ("grpc.max_receive_message_length", config.grpc.max_message_size),
        ("grpc.max_send_message_length", config.grpc.max_message_size),
        ("grpc.max_connection_age_ms", int(age * 1000)),
        ("grpc.max_connection_age_grace_ms", int(grace * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.so_reuseport", 0),
    ]
