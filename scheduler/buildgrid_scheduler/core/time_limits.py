"""What clients are told of jobs that took too long: to run, or to be taken by a bot. Pure."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from google.rpc import code_pb2

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def overlong_response(limit: timedelta, bot_id: str, link: str = "") -> bytes:
    """The answer to an action that executed for longer than `limit`; a serialized ExecuteResponse.

    `link` to the action becomes the message of the response.
    """
    message = (
        f"the action was stopped on bot {bot_id}: it executed for more than {in_words(limit)}, which is the "
        "most that this server allows (max_execution_timeout); make it shorter, or raise the limit"
    )
    return _failed(code_pb2.DEADLINE_EXCEEDED, message, link)


def unserved_response(
    limit: timedelta, label: str, requirements: Mapping[str, Sequence[str]], link: str = ""
) -> bytes:
    """The answer to an action that no bot took within `limit`; a serialized ExecuteResponse."""
    pairs = ", ".join(f"{key}={value}" for key in sorted(requirements) for value in requirements[key])
    wanted = f"are there bots with {pairs}" if pairs else "are there bots"
    message = (
        f"no bot took the action within {in_words(limit)} (queue timeout), label {label!r}: {wanted}, and "
        "enough of them? Start some, then execute the action again"
    )
    return _failed(code_pb2.UNAVAILABLE, message, link)


def in_words(span: timedelta) -> str:
    """Shortly, by the two largest units: "1h 30min"."""
    left = span.total_seconds()
    if left < 1:
        return f"{left:g}s"
    parts = []
    for unit, size in _UNITS:
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number:g}{unit}")
    return " ".join(parts[:2])


def _failed(code: int, message: str, link: str) -> bytes:
    response = re_pb2.ExecuteResponse(message=link)
    response.status.code = code
    response.status.message = message
    return response.SerializeToString()
