"""What a bot holds and what it tells the server next. Pure: no I/O, and the time is a parameter.

A lease is held from the answer that brought it until the answer to the report of its end:

    answer brings it    PENDING    inputs are fetched
    command starts      ACTIVE     told only if the action outlives the grace: a short one costs one call
    action ends         COMPLETED  told at once, with status and result, until an answer arrives
    told CANCELLED      COMPLETED  the action is stopped first; with status CANCELLED, which is accepted
                                   whether the server still knows the lease or not
    bot leaves          -          a PENDING one is dropped: left out of a report with BOT_TERMINATING, it is
                                   handed back

A report is a copy; what happens after it was made is news for the next one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ActionResult,
    ExecutedActionMetadata,
)
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import (
    ACTIVE,
    CANCELLED,
    COMPLETED,
    PENDING,
    Lease,
    LeaseState,
)
from google.rpc.status_pb2 import Status

PARTIAL_METADATA_HEADER = "partial-execution-metadata-{}-bin"
MOST_HEADER_BYTES = 32 * 1024
"""Of them in one report. They tell people how far an action is; a call with more is refused as a whole."""


@dataclass
class _Held:
    lease: Lease
    since: float
    told: LeaseState.ValueType = PENDING
    metadata: ExecutedActionMetadata | None = None
    stopping: bool = False


@dataclass(frozen=True)
class Report:
    """One update: the leases as the bot sees them, and headers with what is known of those newly ACTIVE."""

    leases: list[Lease]
    headers: list[tuple[str, bytes]]
    status: int

    def state_of(self, lease_id: str) -> LeaseState.ValueType | None:
        """What this report says of a lease; None when it says nothing."""
        return next((lease.state for lease in self.leases if lease.id == lease_id), None)


@dataclass
class Orders:
    """What an answer asks the bot to do: leases to start, ids of leases to stop."""

    start: list[Lease] = field(default_factory=list)
    stop: list[str] = field(default_factory=list)


class HeldLeases:
    """The leases of one session. `slots` is its capacity; `grace` is in seconds, see the module."""

    def __init__(self, slots: int, grace: float = 0.1) -> None:
        self._slots = slots
        self._grace = grace
        self._held: dict[str, _Held] = {}

    @property
    def count(self) -> int:
        """Leases held, those included whose end has not been accepted yet."""
        return len(self._held)

    @property
    def running(self) -> int:
        """Leases whose action has not ended."""
        return sum(held.lease.state != COMPLETED for held in self._held.values())

    @property
    def full(self) -> bool:
        """Whether every slot has an action."""
        return self.running >= self._slots

    def forget_all(self) -> None:
        """The session is gone, and with it everything it held."""
        self._held.clear()

    def started(self, lease_id: str, metadata: ExecutedActionMetadata) -> None:
        """The action's command runs; `metadata` is what is known so far."""
        held = self._held[lease_id]
        held.lease.state = ACTIVE
        held.metadata = ExecutedActionMetadata()
        held.metadata.CopyFrom(metadata)

    def finished(self, lease_id: str, status: Status, result: ActionResult | None) -> None:
        """The action ended, stopped ones included."""
        lease = self._held[lease_id].lease
        lease.state = COMPLETED
        lease.status.CopyFrom(status)
        if result is not None:
            lease.result.Pack(result)

    def report(self, bot_status: int) -> Report:
        """Everything held, as of now."""
        leases = []
        headers: list[tuple[str, bytes]] = []
        room = MOST_HEADER_BYTES
        for held in self._held.values():
            lease = Lease(id=held.lease.id, state=held.lease.state)
            # The payload is the server's own; it is not sent back.
            if lease.state == COMPLETED:
                lease.status.CopyFrom(held.lease.status)
                if held.lease.HasField("result"):
                    lease.result.CopyFrom(held.lease.result)
            elif lease.state == ACTIVE and held.told != ACTIVE and held.metadata is not None:
                header = PARTIAL_METADATA_HEADER.format(lease.id), held.metadata.SerializeToString()
                # In base64 on the wire, and with 32 bytes for each (RFC 9113, 10.5.1).
                room -= len(header[0]) + 4 * len(header[1]) // 3 + 36
                if room >= 0:
                    headers.append(header)
            leases.append(lease)
        return Report(leases, headers, bot_status)

    def hand_back(self) -> list[str]:
        """Lets go of every lease whose command has not started, for a bot that leaves. Returns their ids."""
        unstarted = [
            lease_id
            for lease_id, held in self._held.items()
            if held.lease.state == PENDING and not held.stopping
        ]
        for lease_id in unstarted:
            del self._held[lease_id]
        return unstarted

    def answered(
        self, report: Report, leases: Iterable[Lease], now: float, *, take_new: bool = True
    ) -> Orders:
        """Takes in the answer to a report. Without `take_new`, leases that it brings are not started.

        A lease that was reported COMPLETED is done with. If the answer names it as PENDING, it is a new
        attempt. A lease that the answer does not name stays: only CANCELLED stops an action.
        """
        for told in report.leases:
            held = self._held.get(told.id)
            if held is None:
                continue
            held.told = told.state
            if told.state == COMPLETED:
                del self._held[told.id]
        orders = Orders()
        for lease in leases:
            held = self._held.get(lease.id)
            if lease.state == PENDING and held is None:
                if not take_new:
                    continue
                mine = Lease()
                mine.CopyFrom(lease)
                mine.ClearField("status")
                mine.ClearField("result")
                self._held[lease.id] = _Held(mine, since=now)
                orders.start.append(lease)
            elif (
                lease.state == CANCELLED
                and held is not None
                and held.lease.state != COMPLETED
                and not held.stopping
            ):
                held.stopping = True
                orders.stop.append(lease.id)
        return orders

    def news_due(self, latest: Report | None, bot_status: int) -> float | None:
        """When there is something to tell that `latest` does not say, as a time; None: nothing as things are.

        `latest` is the report under way; None when there is none, and the last one was answered.
        """
        if latest is not None and latest.status != bot_status:
            return float("-inf")
        due: float | None = None
        for lease_id, held in self._held.items():
            told = held.told if latest is None else latest.state_of(lease_id)
            if held.lease.state == COMPLETED and told != COMPLETED:
                return float("-inf")
            if held.lease.state == ACTIVE and told != ACTIVE:
                moment = held.since + self._grace
                due = moment if due is None else min(due, moment)
        return due
