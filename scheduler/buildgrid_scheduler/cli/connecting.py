"""The first calls of `execute`: whether the servers are there, and let the caller run something."""

import argparse
import asyncio
import sys
from dataclasses import dataclass
from time import monotonic

import grpc
import grpc.aio
from buildgrid_client.connection_trouble import Cause, cause_of, shortened, was_closed
from buildgrid_client.retries import backoff
from buildgrid_client.tls_probe import speaks_tls
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    GetCapabilitiesRequest,
    ServerCapabilities,
)
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import CapabilitiesStub

NOTICE_S = 3.0
"""Seconds after which is said what is waited for."""
_LONGEST_PAUSE_S = 1.0
_UNREACHED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass(frozen=True, slots=True)
class Door:
    """A server, and the flag that names it."""

    channel: grpc.aio.Channel
    endpoint: str
    flag: str = "--endpoint"


async def why_not(door: Door, args: argparse.Namespace) -> str | None:
    """Why nothing can be run there, with the remedy; None when it can.

    `args`: instance, connect_timeout (a timedelta), and what `refusal` wants. A server that starts is waited
    for; what does not go away by waiting is told at once.
    """
    told = await _ask(door, args)
    if isinstance(told, str):
        return told
    if not told.execution_capabilities.exec_enabled:
        return (
            f"{door.endpoint} executes nothing for this caller in instance {args.instance!r}: it only stores "
            f"(name another with {door.flag}), or the right 'execute' is missing (an administrator grants it)"
        )
    return None


async def why_no_storage(door: Door, args: argparse.Namespace) -> str | None:
    """As `why_not`, for one that is to store; not every storage tells what it is able to."""
    told = await _ask(door, args, optional=True)
    return told if isinstance(told, str) else None


def no_storage(door: Door) -> str:
    """What to do where a server has no CAS."""
    if door.flag == "--endpoint":
        return (
            f"{door.endpoint} has no CAS: it is a scheduler in front of a storage of its own; name that "
            "with --cas-endpoint grpc://HOST:PORT (its storage.endpoint)"
        )
    return f"{door.endpoint} has no CAS; name a storage with {door.flag}"


def refusal(code: grpc.StatusCode | None, args: argparse.Namespace) -> str:
    """What to do about a refusal of whoever calls, as the end of a sentence; nothing for other codes.

    `args`: token_file and tls_certificate.
    """
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return "; ask an administrator for the right, or name other credentials"
    if code is not grpc.StatusCode.UNAUTHENTICATED:
        return ""
    if args.token_file is not None:
        return f"; put a token that the server takes into --token-file {args.token_file}"
    if args.tls_certificate is not None:
        return f"; check --tls-certificate {args.tls_certificate}, or send a token with --token-file"
    return "; say who calls with --token-file, or with --tls-certificate and --tls-key"


async def _ask(door: Door, args: argparse.Namespace, *, optional: bool = False) -> ServerCapabilities | str:
    """What the server is able to; or why it does not tell. `optional`: it need not know the question."""
    within = args.connect_timeout.total_seconds()
    give_up = monotonic() + within
    notice = asyncio.get_running_loop().call_later(
        NOTICE_S, _say, f"no answer from {door.endpoint} yet; waiting for it, for up to {within:g} s"
    )
    request = GetCapabilitiesRequest(instance_name=args.instance)
    stub = CapabilitiesStub(door.channel)
    attempt = 0
    try:
        while True:
            try:
                return await stub.GetCapabilities(request, timeout=max(0.01, give_up - monotonic()))
            except grpc.aio.AioRpcError as error:
                code, details = error.code(), error.details() or ""
            if optional and code is grpc.StatusCode.UNIMPLEMENTED:
                return ServerCapabilities()
            if code not in _UNREACHED:
                return f"{_refused(door, code, args)}: {code.name}: {details}{refusal(code, args)}"
            cause = await _cause(door.endpoint, details)
            if cause is not None and cause.lasting:
                return f"{door.endpoint}: {cause.words} ({shortened(details)})"
            attempt += 1
            pause = backoff(attempt, longest=_LONGEST_PAUSE_S)
            if monotonic() + pause >= give_up:
                return f"no answer from {door.endpoint} in {within:g} s{_reason(door, cause, details, args)}"
            await asyncio.sleep(pause)
    finally:
        notice.cancel()


def _refused(door: Door, code: grpc.StatusCode, args: argparse.Namespace) -> str:
    """Who or what is refused."""
    if code is grpc.StatusCode.UNAUTHENTICATED:
        shown = args.token_file is not None or args.tls_certificate is not None
        return f"{door.endpoint} {'does not take the credentials' if shown else 'wants to know who calls'}"
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return f"{door.endpoint} does not let this caller in"
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND):
        return f"{door.endpoint} refuses --instance {args.instance!r}"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return f"{door.endpoint} does not speak the Remote Execution API (name another with {door.flag})"
    return f"{door.endpoint} fails"


def _reason(door: Door, cause: Cause | None, details: str, args: argparse.Namespace) -> str:
    """Why there is no answer, and one remedy: the best that is known."""
    said = shortened(details)
    if cause is None or cause.nobody:
        what = said if cause is None else f"{cause.what}: {said}"
        return (
            f" ({what}); start a server there (buildgrid-scheduler serve), or name another with {door.flag} "
            "grpc://HOST:PORT"
        )
    if was_closed(details) and args.tls_certificate is not None:
        return (
            f" ({cause.what}: {said}); perhaps it does not take --tls-certificate {args.tls_certificate}: "
            "show one that has not expired, from a CA that the server knows"
        )
    return f" ({cause.what}: {said}); {cause.remedy} ({door.flag})"


async def _cause(endpoint: str, details: str) -> Cause | None:
    """gRPC does not tell by itself that a server would speak TLS."""
    asked = not endpoint.startswith("grpcs:") and was_closed(details)
    return cause_of(endpoint, details, speaks_tls=await speaks_tls(endpoint) if asked else None)


def _say(message: str) -> None:
    print(f"execute: {message}", file=sys.stderr)
