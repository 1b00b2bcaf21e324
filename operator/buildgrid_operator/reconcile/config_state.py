"""Which replicas have the configuration, from what they tell. Pure."""

from collections.abc import Collection

from buildgrid_operator.cluster.fleet_state import FleetState, Replica
from buildgrid_operator.reconcile.holding import Hold
from buildgrid_operator.status.scheduler_conditions import ConfigState


def config_state(
    config_hash: str,
    ready: Collection[str],
    state: FleetState | None,
    *,
    unreachable: str | None = None,
    hold: Hold | None = None,
) -> ConfigState:
    """`ready` are the names of the pods that serve; `state` is what one of them tells of all."""
    told = {} if state is None else newest_by_host(state.replicas)
    serving = [told[name] for name in sorted(ready) if name in told]
    return ConfigState(
        hash=config_hash,
        ready=len(ready),
        configured=sum(replica.config_hash == config_hash for replica in serving),
        errors=tuple(
            (replica.host, replica.refused_error)
            for replica in serving
            if replica.refused_hash == config_hash and replica.refused_error
        ),
        orphans=None if hold is None else hold.orphans,
        unreachable=(None if hold is None else hold.unreachable) or unreachable,
    )


def newest_by_host(replicas: Collection[Replica]) -> dict[str, Replica]:
    """Of each pod its newest process: one that crashed is told of for a while longer. Oldest come first."""
    return {replica.host: replica for replica in replicas}
