"""What Drain and Undrain ask for, as the transaction that does it. Nothing here touches the database."""

from collections.abc import Sequence

from buildgrid_protos.buildgrid.fleet.v1 import fleet_pb2

from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.engine.draining import (
    drain_if_idle,
    drain_some_if_idle,
    drain_when_idle,
    undrain,
)
from buildgrid_scheduler.engine.unheard import Transaction

MOST_BOTS = 10_000
"""in one call: each costs a lock until the transaction ends"""
LONGEST_OWNER = 200


def drain_of(request: fleet_pb2.DrainRequest) -> Transaction[list[str]]:
    """Returns the bots that are marked then. Raises InvalidArgument for what goes with no mode."""
    bots, owner = _bots(request.bot_ids), _owner(request.owner)
    match request.mode:
        case fleet_pb2.DrainRequest.WHEN_IDLE:
            if not bots:
                raise InvalidArgument("bot_ids: empty; WHEN_IDLE needs the bots that are meant")
            if request.number:
                raise InvalidArgument("number: only for IF_IDLE without bot_ids; leave it out")
            return drain_when_idle(request.instance_name, bots, disrupted=request.disrupted, owner=owner)
        case fleet_pb2.DrainRequest.IF_IDLE:
            if request.disrupted:
                raise InvalidArgument(
                    "disrupted: only for WHEN_IDLE, since idle bots lose nothing; leave it out"
                )
            if bots and request.number:
                raise InvalidArgument("number: goes with no bot_ids; send one of the two")
            if bots:
                return drain_if_idle(request.instance_name, bots, owner=owner)
            if not 1 <= request.number <= MOST_BOTS:
                raise InvalidArgument(
                    f"number: {request.number}; without bot_ids IF_IDLE needs how many, from 1 to {MOST_BOTS}"
                )
            return drain_some_if_idle(request.instance_name, request.number, owner=owner)
        case _:
            raise InvalidArgument(f"mode: {request.mode} is none; send IF_IDLE or WHEN_IDLE")


def undrain_of(request: fleet_pb2.UndrainRequest) -> Transaction[list[str]]:
    """Returns the bots that had a mark. Raises InvalidArgument when none is meant."""
    bots, owner = _bots(request.bot_ids), _owner(request.owner)
    if not bots:
        raise InvalidArgument("bot_ids: empty; name the bots whose marks are to go")
    return undrain(request.instance_name, bots, owner=owner, busy_only=request.busy_only)


def _bots(bot_ids: Sequence[str]) -> list[str]:
    if len(bot_ids) > MOST_BOTS:
        raise InvalidArgument(
            f"bot_ids: {len(bot_ids)} in one call; send at most {MOST_BOTS}, and the others in further calls"
        )
    return list(bot_ids)


def _owner(owner: str) -> str:
    if "\0" in owner or len(owner) > LONGEST_OWNER:
        raise InvalidArgument(f"owner: has a NUL or more than {LONGEST_OWNER} characters; send a shorter one")
    return owner
