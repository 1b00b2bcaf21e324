"""Authenticates each call before its handler runs.

gRPC runs interceptor and handler of one call in one task, so the identity that is bound here is what the
handler finds, and no other call does. A token is in the call's headers and is looked at before the request is
read; a certificate is known to the handler's context only, so that handlers are wrapped where certificates
count. Health checks need no identity; everything else, reflection included, needs one.
"""

import inspect
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any, TypeAlias, cast

import grpc

from buildgrid_scheduler.auth.access import bind_caller
from buildgrid_scheduler.auth.denials import DenialLog
from buildgrid_scheduler.auth.identity import Identity
from buildgrid_scheduler.auth.jwt import JwtAuthenticator
from buildgrid_scheduler.auth.mtls import CertificateAuthenticator
from buildgrid_scheduler.core.errors import SchedulerError, Unauthenticated

HEALTH = "/grpc.health.v1.Health/"
_HEADER = "authorization"
_SCHEME = "bearer "

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Found: TypeAlias = "_Handler | None"  # None: there is no such method, which gRPC answers itself
_Continuation: TypeAlias = Callable[[grpc.HandlerCallDetails], Awaitable[_Found]]
_Behaviour: TypeAlias = Callable[[Any, _Context], Any]
_Admit: TypeAlias = Callable[[_Context], Awaitable[None]]

log = logging.getLogger(__name__)


class AuthenticationInterceptor(grpc.aio.ServerInterceptor):
    """With a token, it is the token that counts, and it must be valid; without one, the certificate does."""

    def __init__(
        self,
        denials: DenialLog,
        *,
        tokens: JwtAuthenticator | None = None,
        certificates: CertificateAuthenticator | None = None,
    ) -> None:
        if tokens is None and certificates is None:
            raise ValueError("an interceptor that can authenticate nobody; leave it out")
        self._denials = denials
        self._tokens = tokens
        self._certificates = certificates
        self._wrapped: dict[str, _Handler] = {}

    async def intercept_service(
        self,
        continuation: _Continuation,
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Found:
        """The call's handler; or one that refuses it, without reading its request."""
        method = handler_call_details.method
        if method.startswith(HEALTH):
            return await continuation(handler_call_details)
        try:
            identity = await self._by_token(handler_call_details)
        except Exception as error:  # noqa: BLE001 - becomes the answer: gRPC would show it to the caller
            return self._refusal(method, error)
        if identity is not None:
            bind_caller(identity)
            return await continuation(handler_call_details)
        if self._certificates is not None:
            handler = await continuation(handler_call_details)
            return None if handler is None else self._by_certificate(self._certificates, method, handler)
        return self._refusal(
            method, Unauthenticated("there is no bearer token; send the header authorization: Bearer TOKEN")
        )

    async def _by_token(self, details: grpc.HandlerCallDetails) -> Identity | None:
        if self._tokens is None:
            return None
        token = bearer_token(details.invocation_metadata or ())
        return None if token is None else await self._tokens.authenticate(token)

    def _by_certificate(
        self, certificates: CertificateAuthenticator, method: str, handler: _Handler
    ) -> _Handler:
        async def admit(context: _Context) -> None:
            try:
                identity = certificates.authenticate(context.auth_context())
            except Exception as error:  # noqa: BLE001 - becomes the answer
                await self._refuse(method, error, context)
            else:
                bind_caller(identity)

        wrapped = self._wrapped.get(method)
        if wrapped is None:
            wrapped = self._wrapped[method] = admitted(handler, admit)
        return wrapped

    def _refusal(self, method: str, error: Exception) -> _Handler:
        """A handler for a method of any kind: on the wire all are streams of messages both ways."""

        async def refuse(_requests: AsyncIterator[bytes], context: _Context) -> None:
            await self._refuse(method, error, context)

        return grpc.stream_stream_rpc_method_handler(refuse)

    async def _refuse(self, method: str, error: Exception, context: _Context) -> None:
        if isinstance(error, SchedulerError):
            self._denials.note(f"{method} from {context.peer()}", str(error))
            await context.abort(error.code, str(error))
        incident = uuid.uuid4().hex[:12]
        log.error("authentication for %s failed, incident %s", method, incident, exc_info=error)
        await context.abort(
            grpc.StatusCode.INTERNAL,
            f"internal error, incident {incident}: the server's log has the details under this number",
        )


def bearer_token(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """The token of the header `authorization` (RFC 6750, section 2.1); None without that header.

    Raises Unauthenticated for a header that is there more than once or holds something else.
    """
    values = [value for key, value in metadata if key == _HEADER]
    if not values:
        return None
    value = values[0]
    if len(values) > 1 or not isinstance(value, str) or value[: len(_SCHEME)].lower() != _SCHEME:
        raise Unauthenticated("the header authorization must be there once and hold: Bearer TOKEN")
    return value[len(_SCHEME) :].strip()


def admitted(handler: _Handler, admit: _Admit) -> _Handler:
    """The handler, run only after `admit`, which aborts the call otherwise. Handlers must be async."""
    behaviour = cast(
        _Behaviour,
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream,
    )
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    made: _Handler = make(
        _admitted(behaviour, admit), handler.request_deserializer, handler.response_serializer
    )
    return made


def _admitted(behaviour: _Behaviour, admit: _Admit) -> _Behaviour:
    # Two shapes, since gRPC looks at the function to see which it is: answers are returned, or yielded.
    if inspect.isasyncgenfunction(behaviour):

        async def answers(request: Any, context: _Context) -> AsyncIterator[Any]:
            await admit(context)
            async with aclosing(behaviour(request, context)) as inner:
                async for answer in inner:
                    yield answer

        return answers
    if not inspect.iscoroutinefunction(behaviour):
        raise TypeError(f"{behaviour!r} is not async, and would run without this call's identity")

    async def answer(request: Any, context: _Context) -> Any:
        await admit(context)
        return await behaviour(request, context)

    return answer
