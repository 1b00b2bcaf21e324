"""Whether the bot can use its CAS, and what follows.

A bot that cannot read inputs fails whatever it is given. So it asks the CAS before it opens a session, and
now and then: while there is no answer it says UNHEALTHY, finishes what it has, and is given nothing. Where
there is no CAS at all, it ends. What no question brings to light, actions do: after some in a row that failed
for the CAS's sake the bot takes nothing for a while.
"""

import asyncio
import logging
import time
from collections.abc import Callable

import grpc
from buildgrid_client.connection_trouble import explained
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import FindMissingBlobsRequest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import (
    ContentAddressableStorageStub,
)

_log = logging.getLogger(__name__)

LOOK_EVERY = 30.0
"""seconds, while it answers"""
LOOK_AGAIN = 2.0
"""seconds, while it does not"""
ANSWERS_WITHIN = 10.0
SAY_EVERY = 60.0
"""seconds between two complaints of the same"""
FAILURES_IN_A_ROW = 3
REST = 60.0
"""seconds without work after so many"""


class CasNotOffered(Exception):
    """What answers at the address of the CAS is none."""


class CasHealth:
    """Asks the CAS behind `channel`; `take_work` is told whether the bot may get more, as that changes.

    `endpoint` is its address, and `given` whether that was named as such or is the scheduler's.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        instance_name: str,
        endpoint: str,
        take_work: Callable[[bool], None],
        *,
        given: bool = True,
        look_every: float = LOOK_EVERY,
        look_again: float = LOOK_AGAIN,
        rest: float = REST,
    ) -> None:
        self._stub = ContentAddressableStorageStub(channel)
        self._request = FindMissingBlobsRequest(instance_name=instance_name)
        self._endpoint = endpoint
        self._name = f"{endpoint} (--cas-endpoint)" if given else f"{endpoint} (--endpoint)"
        self._remedy = (
            "name the farm's CAS with --cas-endpoint"
            if given
            else "name the farm's CAS with --cas-endpoint, which is that of --endpoint where it is not given"
        )
        self._take_work = take_work
        self._look_every = look_every
        self._look_again = look_again
        self._rest = rest
        self._answered = False
        """once, at least"""
        self._well = True
        self._said, self._said_at = "", float("-inf")
        self._failures = 0
        self._resting = False

    async def look(self) -> None:
        """Ask once. Raises CasNotOffered when the server has none, and never had while the bot was there."""
        try:
            await self._stub.FindMissingBlobs(self._request, timeout=ANSWERS_WITHIN)
        except grpc.aio.AioRpcError as error:
            details = error.details() or ""
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                text = f"there is no CAS at {self._name} ({details}): {self._remedy}"
                if not self._answered:
                    raise CasNotOffered(text) from error
            elif error.code() is grpc.StatusCode.UNAVAILABLE:
                text = f"cannot reach the CAS at {self._name}: {explained(self._endpoint, details)}"
            elif error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                text = f"the CAS at {self._name} does not answer within {ANSWERS_WITHIN:g} s"
            else:
                text = f"the CAS at {self._name} refuses this bot ({error.code().name}: {details})"
            self._complain(text, error.code().name)
            self._well = False
        else:
            if not self._well:
                _log.info("the CAS at %s answers: actions are taken", self._name)
            self._answered = self._well = True
            self._said = ""
        self._tell()

    async def watch(self) -> None:
        """Ask again and again. Raises CasNotOffered as `look` does."""
        while True:
            await asyncio.sleep(self._look_every if self._well else self._look_again)
            await self.look()

    def action_ended(self, could_use_cas: bool) -> None:
        """An action ended; whether the CAS did what was wanted of it. Called in the event loop."""
        if could_use_cas:
            self._failures = 0
            return
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW and not self._resting:
            _log.warning(
                "%d actions in a row failed since the CAS at %s could not be used: "
                "no more actions are taken for %g s; %s",
                *(self._failures, self._name, self._rest, self._remedy),
            )
            self._resting = True
            self._tell()
            asyncio.get_running_loop().call_later(self._rest, self._rested)

    def _rested(self) -> None:
        self._resting = False
        self._tell()

    def _tell(self) -> None:
        self._take_work(self._well and not self._resting)

    def _complain(self, text: str, what: str) -> None:
        now = time.monotonic()
        if self._said != what or now - self._said_at >= SAY_EVERY:
            _log.warning("%s; no actions are taken until it answers", text)
            self._said, self._said_at = what, now
