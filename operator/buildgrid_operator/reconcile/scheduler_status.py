"""The status of a Scheduler but its conditions, from what a pass found. Pure."""

from typing import Any

from buildgrid_operator.api import Scheduler
from buildgrid_operator.api.status import SchedulerStatus
from buildgrid_operator.cluster.fleet_state import FleetState
from buildgrid_operator.desired import names
from buildgrid_operator.reconcile.planning import Plan
from buildgrid_operator.status.conditions import rfc3339
from buildgrid_operator.status.scheduler_conditions import SchedulerFacts


def status_after(
    scheduler: Scheduler, plan: Plan, facts: SchedulerFacts, fleet: FleetState | None
) -> SchedulerStatus:
    """What was not found out in this pass stays as it was told before."""
    before, bundle = scheduler.status, plan.bundle
    if bundle is None:
        return before
    selector = names.selector(scheduler.metadata, names.SCHEDULER)
    found: dict[str, Any] = {
        "selector": ",".join(f"{key}={value}" for key, value in sorted(selector.items())),
        "image": plan.images.scheduler,
        "storage_image": plan.images.storage,
        "config_hash": bundle.config_hash,
        "template_hash": bundle.template_hash,
        "endpoints": bundle.endpoints,
    }
    if plan.property_set is not None:
        found["property_set"] = plan.property_set
    if facts.pods is not None:
        found |= {
            "replicas": facts.pods.total,
            "ready_replicas": facts.pods.ready,
            "updated_replicas": facts.pods.updated,
        }
    if facts.config is not None and facts.config.unreachable is None:
        found["configured_replicas"] = facts.config.configured
    if fleet is not None:
        found |= figures_of(fleet)
        found["version"] = _version(fleet) or before.version
    return before.model_copy(update=found)


def figures_of(fleet: FleetState) -> dict[str, Any]:
    """What the replicas tell of jobs and bots: attributes of a status."""
    oldest = fleet.oldest_queued
    return {
        "queued_jobs": fleet.queued,
        "executing_jobs": fleet.executing,
        "connected_bots": fleet.connected_bots,
        "oldest_queued_time": None if oldest is None else rfc3339(oldest),
    }


def _version(fleet: FleetState) -> str | None:
    """Of the replicas; while they are replaced, that of the newest one, which comes last."""
    return next((replica.version for replica in reversed(fleet.replicas) if replica.version), None)
