"""Tokens of the operator's own ServiceAccount, for one Scheduler each.

They are asked of the API server (TokenRequest), for which the operator needs one right on one object: its own
ServiceAccount. A token that is projected into its pod would do for all Schedulers alike, so that whoever may
run one could take the operator's token there and be the operator at all others.
"""

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta

from buildgrid_scheduler.core.clock import Clock, utc_now

from buildgrid_operator.cluster.client import Client

LIFETIME = timedelta(hours=1)
_RENEWED_AFTER = 0.8
"""of its lifetime, as the kubelet does with projected tokens"""


@dataclass(frozen=True, slots=True)
class _Token:
    token: str
    renew_at: datetime


class OwnTokens:
    """Remembers each token until it is due for another. Called from threads."""

    def __init__(
        self, client: Client, namespace: str, service_account: str, *, clock: Clock = utc_now
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._service_account = service_account
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _Token] = {}

    def __call__(self, audience: str) -> str:
        """A token for an audience. Raises ClusterError."""
        now = self._clock()
        with self._lock:
            known = self._known.get(audience)
        if known is not None and now < known.renew_at:
            return known.token
        token, expires = self._client.request_token(
            self._namespace, self._service_account, audience, LIFETIME
        )
        renewed = _Token(token, now + (expires - now) * _RENEWED_AFTER)
        with self._lock:
            # Those of Schedulers that are gone are not asked for again.
            self._known = {name: each for name, each in self._known.items() if now < each.renew_at}
            self._known[audience] = renewed
        return token

    def forget(self, audience: str) -> None:
        """The next one for this audience is a new one."""
        with self._lock:
            self._known.pop(audience, None)
