"""While a command waits or runs: says that its server does not answer, and that it does again."""

import asyncio
import sys

from buildgrid_client.connection_trouble import shortened

from buildgrid_scheduler.cli.queue_watch import QueueWatch

NOTICE_S = 5.0
"""Seconds without the server after which that is said: replicas that are replaced are not worth a word."""


class OutageWatch:
    """Its `on_outage` is for ExecutionClient. Meanwhile nothing is said of bots: nothing is known of them."""

    def __init__(self, endpoint: str, queue: QueueWatch) -> None:
        self._endpoint = endpoint
        self._queue = queue
        self._notice: asyncio.TimerHandle | None = None
        self._told = False
        self._reason = ""

    def on_outage(self, reason: str | None) -> None:
        """The server was lost for this reason, or (None) has been heard of again."""
        if reason is None:
            self.close()
            if self._told:
                _say(f"{self._endpoint} answers again")
                self._told = False
            self._queue.resume()
            return
        self._reason = reason
        if self._notice is None:
            self._queue.pause()
            self._notice = asyncio.get_running_loop().call_later(NOTICE_S, self._tell)

    def close(self) -> None:
        """Nothing is to be said any more."""
        if self._notice is not None:
            self._notice.cancel()
        self._notice = None

    def _tell(self) -> None:
        self._told = True
        _say(
            f"{self._endpoint} does not answer ({shortened(self._reason)}); the command is not lost, "
            "waiting for the server"
        )


def _say(message: str) -> None:
    print(f"execute: {message}", file=sys.stderr)
