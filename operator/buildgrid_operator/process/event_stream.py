"""kopf, as the source of events: of the kinds that are asked for, with a label selector for each."""

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any

import kopf
from kubernetes import client as kubernetes

from buildgrid_operator.cluster.kinds import Kind, Manifest

Happened = Callable[[Manifest, bool], None]
"""(object, whether it was deleted)"""
Listed = Callable[[], None]
"""an object was listed: a watch began, or began anew since what it went on from was compacted away"""
_WATCH_SECONDS = 300
_SLACK_SECONDS = 30
_CONNECT_SECONDS = 10
_REQUEST_SECONDS = 60
_PATIENCE = timedelta(seconds=10)
"""for kopf to end; it gives its own tasks 5 s of these"""
_AGAIN = timedelta(seconds=1)
_BACKOFFS = (0.5, 1, 1, 2, 2, 5, 5, 5, 5)
"""seconds between attempts of a list; after the last one the stream ends"""


class EventStream:
    """Streams events with the same credentials as the client's."""

    def __init__(self, api: kubernetes.ApiClient) -> None:
        self._api = api

    def run(
        self,
        kinds: Mapping[Kind, str],
        namespaces: tuple[str, ...],
        happened: Happened,
        listed: Listed,
        stop: threading.Event,
    ) -> None:
        """Until `stop`, or until a watch fails for good, which raises, and sets it. Blocks: for a thread.

        kopf needs an event loop of its own, since it ends all tasks that were begun while it runs.
        `happened` and `listed` are called there, and must not block.
        """
        registry, ending = self._registry(kinds, happened, listed), asyncio.Event()

        async def on_cleanup(**_: Any) -> None:
            ending.set()

        kopf.on.cleanup(registry=registry)(on_cleanup)
        coroutine = kopf.operator(
            registry=registry,
            settings=stream_settings(kinds),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
            stop_flag=stop,
        )
        asyncio.run(run_until_over(coroutine, ending, stop))

    def _registry(
        self, kinds: Mapping[Kind, str], happened: Happened, listed: Listed
    ) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        for kind in kinds:
            handler = _handler(kind, happened, listed)
            kopf.on.event(kind.group, kind.api_version.rpartition("/")[2], kind.plural, registry=registry)(
                handler
            )
        return registry

    def _login(self, **_unused: Any) -> kopf.ConnectionInfo:
        """Asked again when the API server does not accept the credentials any more."""
        settings = self._api.configuration
        header: str = settings.get_api_key_with_prefix("BearerToken") or ""
        scheme, _, token = header.rpartition(" ")
        return kopf.ConnectionInfo(
            server=settings.host,
            ca_path=settings.ssl_ca_cert,
            insecure=not settings.verify_ssl,
            scheme=scheme or None,
            token=token or None,
            certificate_path=settings.cert_file,
            private_key_path=settings.key_file,
        )


async def run_until_over(
    coroutine: Coroutine[Any, Any, None],
    ending: asyncio.Event,
    stop: threading.Event,
    patience: timedelta = _PATIENCE,
) -> None:
    """Run what ends when `stop` is set, or by itself; and when it has begun to (`ending`), see that it does.

    kopf cancels each of its tasks once and waits for them. A watch that is just being closed misses that, and
    goes on for ever; so after `patience` all are cancelled again and again. kopf waits for `stop` on a
    thread, and asyncio for that thread: in the end `stop` is set, whatever ended.
    """
    running = asyncio.create_task(coroutine)
    told = asyncio.create_task(asyncio.to_thread(stop.wait))
    over = asyncio.create_task(ending.wait())
    try:
        await asyncio.wait({running, told, over}, return_when=asyncio.FIRST_COMPLETED)
        wait = patience.total_seconds()
        while not (await asyncio.wait({running}, timeout=wait))[0]:
            wait = min(wait, _AGAIN.total_seconds())
            for task in asyncio.all_tasks() - {running, told, asyncio.current_task()}:
                task.cancel()
        await running
    finally:
        over.cancel()
        stop.set()


def stream_settings(kinds: Mapping[Kind, str]) -> kopf.OperatorSettings:
    """No scans of the cluster, no events by kopf, and an end for every call."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    # Not all watches at the same moment.
    settings.watching.server_timeout = _WATCH_SECONDS + random.randrange(_SLACK_SECONDS)  # noqa: S311
    settings.watching.client_timeout = _WATCH_SECONDS + 2 * _SLACK_SECONDS
    settings.watching.connect_timeout = _CONNECT_SECONDS
    settings.watching.reconnect_backoff = 1.0
    settings.networking.connect_timeout = _CONNECT_SECONDS
    settings.networking.request_timeout = _REQUEST_SECONDS
    settings.networking.error_backoffs = _BACKOFFS
    for kind, selector in kinds.items():
        if selector:
            version = kind.api_version.rpartition("/")[2]
            settings.watching.label_selectors[kind.group, version, kind.plural] = selector
    return settings


def _handler(kind: Kind, happened: Happened, listed: Listed) -> Callable[..., Any]:
    async def on_event(event: Mapping[str, Any], **_: Any) -> None:
        # Items of a list come without the two.
        obj = {"apiVersion": kind.api_version, "kind": kind.kind, **event["object"]}
        if event["type"] is None:
            listed()
        happened(obj, event["type"] == "DELETED")

    return on_event


class _NoSignals(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "OS signals are ignored" not in record.getMessage()


# They are the process's, which does not run on this thread.
logging.getLogger("kopf._core.reactor.running").addFilter(_NoSignals())
