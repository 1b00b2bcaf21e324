"""The first call of `execute`: whether the server is there, and lets the caller run something."""

import argparse
import asyncio
import sys
from time import monotonic

import grpc
import grpc.aio
from buildgrid_client.connection_trouble import Cause, cause_of, shortened, was_closed
from buildgrid_client.retries import backoff
from buildgrid_client.tls_probe import speaks_tls
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import GetCapabilitiesRequest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import CapabilitiesStub

NOTICE_S = 3.0
"""Seconds after which is said what is waited for."""
_LONGEST_PAUSE_S = 1.0


async def why_not(channel: grpc.aio.Channel, args: argparse.Namespace) -> str | None:
    """Why nothing can be run there, with the remedy; None when it can.

    `args`: endpoint, instance, connect_timeout (a timedelta), and what `refusal` wants. A server that starts
    is waited for; what does not go away by waiting is told at once.
    """
    within = args.connect_timeout.total_seconds()
    give_up = monotonic() + within
    notice = asyncio.get_running_loop().call_later(
        NOTICE_S, _say, f"no answer from {args.endpoint} yet; waiting for it, for up to {within:g} s"
    )
    request = GetCapabilitiesRequest(instance_name=args.instance)
    stub = CapabilitiesStub(channel)
    attempt = 0
    try:
        while True:
            try:
                told = await stub.GetCapabilities(request, timeout=max(0.01, give_up - monotonic()))
                break
            except grpc.aio.AioRpcError as error:
                code, details = error.code(), error.details() or ""
            if code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                return (
                    f"{args.endpoint} refuses --instance {args.instance!r}: {code.name}: {details}"
                    f"{refusal(code, args)}"
                )
            cause = await _cause(args.endpoint, details)
            if cause is not None and cause.lasting:
                return f"{args.endpoint}: {cause.words} ({shortened(details)})"
            attempt += 1
            pause = backoff(attempt, longest=_LONGEST_PAUSE_S)
            if monotonic() + pause >= give_up:
                reason = shortened(details) if cause is None else f"{cause.words}: {shortened(details)}"
                return (
                    f"no answer from {args.endpoint} in {within:g} s ({reason}); start a server there "
                    "(buildgrid-scheduler serve), or name another with --endpoint grpc://HOST:PORT"
                )
            await asyncio.sleep(pause)
    finally:
        notice.cancel()
    if not told.execution_capabilities.exec_enabled:
        return (
            f"{args.endpoint} executes nothing for this caller in instance {args.instance!r}: it only stores "
            "(name another with --endpoint), or the right 'execute' is missing (an administrator grants it)"
        )
    return None


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


async def _cause(endpoint: str, details: str) -> Cause | None:
    """gRPC does not tell by itself that a server would speak TLS."""
    asked = not endpoint.startswith("grpcs:") and was_closed(details)
    return cause_of(endpoint, details, speaks_tls=await speaks_tls(endpoint) if asked else None)


def _say(message: str) -> None:
    print(f"execute: {message}", file=sys.stderr)
