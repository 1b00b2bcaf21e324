"""From exceptions to gRPC statuses: the one place where errors become answers.

`@rpc` is for handlers with one answer (`async def M(self, request, context)`, where the request may also be
an iterator), `@streaming_rpc` for those that are async generators. A `SchedulerError` is sent with its own
code and message. Anything else is a fault of ours: it is logged with its trace, and the caller gets INTERNAL
and an incident number to search the log for, never the trace itself.
"""

import asyncio
import functools
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn, ParamSpec, Protocol, TypeAlias, TypeVar, cast

import grpc
from google.rpc import error_details_pb2, status_pb2

from buildgrid_scheduler.core.errors import MissingBlobs, SchedulerError

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
P = ParamSpec("P")
ResponseT = TypeVar("ResponseT")
ItemT = TypeVar("ItemT")

STATUS_DETAILS_KEY = "grpc-status-details-bin"
ERROR_DOMAIN = "buildgrid-kubernetes"
"""of the reasons in google.rpc.ErrorInfo"""
# Clients drop a call whose headers exceed 8 KiB (the default of gRPC's C core and of Java). The message
# travels twice, percent-encoded and in the details; these are in base64: 1 KiB as it is encoded, and 4 KiB
# before that, leave room for other headers.
MAX_MESSAGE_BYTES = 1024
MAX_DETAILS_BYTES = 4096
_CUT = " ... "
_AS_THEY_ARE = bytes(byte for byte in range(0x20, 0x7F) if byte != ord("%"))
"""what a message is sent with; all other bytes take three (gRPC over HTTP2, Status-Message)"""

_log = logging.getLogger(__name__)


class _Closable(Protocol):
    def aclose(self) -> Awaitable[object]: ...


def rpc(
    method: Callable[P, Awaitable[ResponseT]],
) -> Callable[P, Awaitable[ResponseT]]:
    """Wraps a handler that gives one answer. The context must be its last positional argument."""

    @functools.wraps(method)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> ResponseT:
        try:
            return await method(*args, **kwargs)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the border: each exception becomes an answer
            await _abort(_context_of(args, kwargs), error, method)

    return guarded


def streaming_rpc(
    method: Callable[P, AsyncIterator[ItemT]],
) -> Callable[P, AsyncIterator[ItemT]]:
    """Wraps a handler that is an async generator. It is closed when the caller goes away."""

    @functools.wraps(method)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[ItemT]:
        try:
            items = method(*args, **kwargs)
            async with aclosing(cast(_Closable, items)):
                async for item in items:
                    yield item
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the border: each exception becomes an answer
            await _abort(_context_of(args, kwargs), error, method)

    return guarded


def status_of(error: SchedulerError) -> status_pb2.Status:
    """The error as google.rpc.Status, for answers that carry one per item or inside an operation.

    Its `details` hold a PreconditionFailure for `MissingBlobs` (all of its keys), an ErrorInfo for an error
    with a cause, and nothing otherwise.
    """
    status = status_pb2.Status(code=_number(error.code), message=str(error))
    _add_cause(status, error)
    if isinstance(error, MissingBlobs):
        failure = error_details_pb2.PreconditionFailure()
        for key in error.keys:
            failure.violations.add(type="MISSING", subject=f"blobs/{key}")
        status.details.add().Pack(failure)
    return status


def trailing_status(error: SchedulerError) -> status_pb2.Status:
    """`status_of`, cut so that it fits into trailing metadata.

    Of many missing blobs only the first are listed: the caller uploads those, asks again, and is
    told the rest.
    """
    status = status_pb2.Status(code=_number(error.code), message=shortened(str(error)))
    _add_cause(status, error)
    if not isinstance(error, MissingBlobs):
        return status
    failure = error_details_pb2.PreconditionFailure()
    size = 0
    for key in error.keys:
        violation = error_details_pb2.PreconditionFailure.Violation(type="MISSING", subject=f"blobs/{key}")
        size += violation.ByteSize() + 4
        if size > MAX_DETAILS_BYTES - MAX_MESSAGE_BYTES:
            break
        failure.violations.append(violation)
    status.details.add().Pack(failure)
    return status


def _add_cause(status: status_pb2.Status, error: SchedulerError) -> None:
    if error.cause is not None:
        info = error_details_pb2.ErrorInfo(reason=error.cause.reason, domain=ERROR_DOMAIN)
        info.metadata.update(error.cause.metadata)
        status.details.add().Pack(info)


def shortened(message: str, most: int = MAX_MESSAGE_BYTES) -> str:
    """The message if it takes at most so many bytes in a header; its two ends otherwise.

    What makes a message long is mostly what the caller sent, in the middle; the remedy is at the end.
    """
    if _encoded_size(message) <= most:
        return message
    room = (most - len(_CUT)) // 2
    start, end = _fitting(message, room), _fitting(message[::-1], room)[::-1]
    return f"{start}{_CUT}{end}"


def _fitting(text: str, room: int) -> str:
    """As much of the beginning as has room."""
    text = text[:room]
    while (size := _encoded_size(text)) > room:
        text = text[: -max(1, (size - room) // 12)]  # a character takes 12 bytes at most
    return text


def _encoded_size(text: str) -> int:
    data = text.encode(errors="replace")
    return len(data) + 2 * len(data.translate(None, _AS_THEY_ARE))


async def _abort(context: Context, error: Exception, method: Callable[..., object]) -> NoReturn:
    name = getattr(method, "__qualname__", repr(method))
    if isinstance(error, SchedulerError):
        _log.debug("%s: %s: %s", name, error.code.name, error)
        status = trailing_status(error)
        details = ((STATUS_DETAILS_KEY, status.SerializeToString()),) if status.details else ()
        await _end(context, error.code, status.message, details)
    incident = uuid.uuid4().hex[:12]
    _log.error("%s failed, incident %s", name, incident, exc_info=error)
    await _end(
        context,
        grpc.StatusCode.INTERNAL,
        f"internal error, incident {incident}: the server's log has the details under this number",
    )


async def _end(
    context: Context, code: grpc.StatusCode, message: str, details: tuple[tuple[str, bytes], ...] = ()
) -> NoReturn:
    try:
        await context.abort(code, message, details)
    except grpc.aio.InternalError as error:
        # gRPC has ended the call meanwhile, for example for a message that is too large: nobody is left to
        # tell. That is what a cancellation means to gRPC; any other error it would log as ours.
        raise asyncio.CancelledError from error


def _context_of(args: tuple[object, ...], kwargs: dict[str, object]) -> Context:
    return cast(Context, kwargs["context"] if "context" in kwargs else args[-1])


def _number(code: grpc.StatusCode) -> int:
    value: tuple[int, str] = code.value
    return value[0]
