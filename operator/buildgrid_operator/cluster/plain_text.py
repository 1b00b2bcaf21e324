"""Tokens that go over connections without TLS: a mesh may encrypt them, which cannot be seen from here."""

import ipaddress
import logging
import threading
from urllib.parse import urlsplit

_log = logging.getLogger(__name__)


class PlainTextWarnings:
    """One for each endpoint. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: set[str] = set()

    def token_goes_to(self, endpoint: str, remedy: str) -> None:
        """Warns if it can be read on its way. `remedy`: what to set, unless the network itself encrypts."""
        if not endpoint.startswith("grpc://") or _is_loopback(endpoint):
            return
        with self._lock:
            if endpoint in self._told:
                return
            self._told.add(endpoint)
        _log.warning(
            "the operator's token, which may administer, goes to %s as plain text: "
            "unless the network itself encrypts, %s",
            endpoint,
            remedy,
        )


def _is_loopback(endpoint: str) -> bool:
    """Whether what is sent there stays on this machine."""
    try:
        host = urlsplit(endpoint).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
