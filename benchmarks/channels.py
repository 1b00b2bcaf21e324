"""Connections to the server under load, and which of its errors are worth another try."""

import grpc
import grpc.aio

RETRY_PAUSE = 0.1
"""Seconds before another try."""

_RETRYABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
# Without a pool of its own each channel to the same address would share one connection.
_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 16 << 20)]


def open_channels(endpoint: str, count: int) -> list[grpc.aio.Channel]:
    """`count` separate connections."""
    return [grpc.aio.insecure_channel(endpoint, options=_OPTIONS) for _ in range(count)]


def is_retryable(error: grpc.aio.AioRpcError) -> bool:
    return error.code() in _RETRYABLE


def describe(error: grpc.aio.AioRpcError) -> str:
    """One line, the same for the same kind of failure."""
    return f"{error.code().name}: {(error.details() or '').splitlines()[0][:160] if error.details() else ''}"
