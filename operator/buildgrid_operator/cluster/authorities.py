"""Whom to believe that a certificate is a Scheduler's: certificates in ConfigMaps, which are no secrets."""

import threading
from datetime import datetime, timedelta

from buildgrid_scheduler.core.clock import Clock, utc_now

from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import CONFIG_MAP

GOOD_FOR = timedelta(minutes=1)
"""A Scheduler is asked every few seconds, and its authority is another one once in years."""

_Key = tuple[str, str, str]


class NoAuthority(Exception):
    """The ConfigMap, or its key, is not there. The text is for the person who reads the condition."""


class Authorities:
    """PEM of ConfigMaps, read again after `GOOD_FOR`, and when it turned out to be wrong. For threads."""

    def __init__(self, client: Client, *, clock: Clock = utc_now) -> None:
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[_Key, tuple[datetime, bytes]] = {}

    def __call__(self, namespace: str, name: str, key: str) -> bytes:
        """The content of a key of a ConfigMap. Raises NoAuthority, ClusterError."""
        place, now = (namespace, name, key), self._clock()
        with self._lock:
            known = self._known.get(place)
        if known is not None and now - known[0] < GOOD_FOR:
            return known[1]
        pem = self._read(place)
        with self._lock:
            self._known = {each: it for each, it in self._known.items() if now - it[0] < GOOD_FOR}
            self._known[place] = now, pem
        return pem

    def forget(self, namespace: str, name: str, key: str) -> None:
        """Read it anew the next time."""
        with self._lock:
            self._known.pop((namespace, name, key), None)

    def _read(self, place: _Key) -> bytes:
        namespace, name, key = place
        found = self._client.find(CONFIG_MAP, namespace, name)
        if found is None:
            raise NoAuthority(f"there is no ConfigMap {name}, which spec.tls.caConfigMapRef names; make it")
        text = (found.get("data") or {}).get(key)
        if not isinstance(text, str) or not text.strip():
            raise NoAuthority(
                f"the ConfigMap {name} has no certificates under {key}, which spec.tls.caConfigMapRef names"
            )
        return text.encode()
