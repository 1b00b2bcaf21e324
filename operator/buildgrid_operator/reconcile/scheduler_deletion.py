"""The passes of a Scheduler that is being deleted and is to drain: new jobs are refused, the others end.

Nothing is made or healed any more. The one thing that is written is the switch in its configuration, in the
ConfigMap as it is: what else that says is in force, whatever became of the spec and the PropertySet since.
"""

import hashlib
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from buildgrid_scheduler.core.clock import Clock, utc_now

from buildgrid_operator.api import InvalidSpec, Scheduler
from buildgrid_operator.api.resource import Metadata
from buildgrid_operator.api.status import SchedulerStatus
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import ClusterError, Conflict
from buildgrid_operator.cluster.fleet_state import FleetState
from buildgrid_operator.cluster.kinds import CONFIG_MAP, DEPLOYMENT, Manifest, ObjectRef
from buildgrid_operator.desired import names
from buildgrid_operator.desired.config import FILE_NAME, refusing_jobs
from buildgrid_operator.reconcile import pods as pod_views
from buildgrid_operator.reconcile.announcing import announce
from buildgrid_operator.reconcile.cache import Cache
from buildgrid_operator.reconcile.config_state import config_state
from buildgrid_operator.reconcile.deletion import (
    is_ending,
    is_held,
    still_draining,
    wait_until,
    with_finalizer,
)
from buildgrid_operator.reconcile.planning import Planner, has_served
from buildgrid_operator.reconcile.reading import status_of
from buildgrid_operator.reconcile.scheduler_status import figures_of
from buildgrid_operator.reconcile.status_writer import StatusWriter, Told
from buildgrid_operator.reconcile.work_queue import DONE, Outcome
from buildgrid_operator.status.conditions import SCHEDULER_CONDITIONS
from buildgrid_operator.status.scheduler_conditions import (
    ConfigState,
    Draining,
    SchedulerFacts,
    scheduler_verdicts,
)
from buildgrid_operator.status.writes import SCHEDULER_FIGURES

_log = logging.getLogger(__name__)
SOON = timedelta(seconds=2)
"""until the replicas are asked again"""
_UNKNOWN = {"queued_jobs": None, "executing_jobs": None, "connected_bots": None, "oldest_queued_time": None}


@dataclass(frozen=True, slots=True)
class _Switch:
    """The configuration that refuses new jobs. `accepts`: why there is none."""

    config_hash: str = ""
    accepts: str | None = None


class SchedulerDeletion:
    """Synchronous; called from threads, for several Schedulers at once."""

    def __init__(
        self, client: Client, cache: Cache, planner: Planner, writer: StatusWriter, *, clock: Clock = utc_now
    ) -> None:
        self._client = client
        self._cache = cache
        self._planner = planner
        self._writer = writer
        self._clock = clock

    def run(self, ref: ObjectRef, obj: Manifest) -> Outcome:
        """One pass. Raises ClusterError."""
        if not is_held(obj):
            return DONE
        try:
            until = self._until(ref, obj)
            if until is None:
                return self._free(obj)
            before = status_of(obj, SchedulerStatus)
            endpoint = before.endpoints.scheduler if before.endpoints is not None else None
            switch = self._refuse(ref)
            state = self._planner.state_of(ref, endpoint)
            config = self._config(ref, switch, state)
            draining = still_draining(state, config, until, switch.accepts)
            if draining is None or is_ending(self._client, ref.namespace):
                return self._free(obj)
        except Conflict:
            return Outcome(again_after=SOON)
        self._tell(obj, before, draining, config, state)
        return Outcome(again_after=SOON)

    def _until(self, ref: ObjectRef, obj: Manifest) -> datetime | None:
        try:
            scheduler = Scheduler.parse(obj)
        except InvalidSpec:
            return None
        name = names.scheduler_name(scheduler.metadata)
        deployment = self._find(ObjectRef(DEPLOYMENT, ref.namespace, name))
        return wait_until(
            obj,
            scheduler.spec.deletion,
            deployment,
            served=has_served(scheduler, deployment),
            now=self._clock(),
        )

    def _refuse(self, ref: ObjectRef) -> _Switch:
        """Have the replicas refuse new jobs; done already, this writes nothing."""
        name = names.config_name(Metadata(name=ref.name, namespace=ref.namespace))
        config_map = self._find(ObjectRef(CONFIG_MAP, ref.namespace, name))
        if config_map is None:
            return _Switch(accepts=f"there is no ConfigMap {name}")
        try:
            text = refusing_jobs((config_map.get("data") or {}).get(FILE_NAME, ""))
            config_hash = hashlib.sha256(text.encode()).hexdigest()
            self._write(config_map, text, config_hash)
        except Conflict:
            raise
        except (ValueError, ClusterError) as error:
            if isinstance(error, ClusterError) and error.transient:
                raise
            return _Switch(accepts=str(error))
        pods = pod_views.of_component(self._cache.pods(ref), names.SCHEDULER)
        refusal = announce(self._client, self._cache, pods, config_hash)
        if refusal is not None:
            # They take it up all the same, when the kubelet looks by itself.
            _log.warning("%s", refusal.message)
        return _Switch(config_hash)

    def _write(self, config_map: Manifest, text: str, config_hash: str) -> None:
        if config_map["data"][FILE_NAME] == text:
            return
        annotations = {**(config_map["metadata"].get("annotations") or {}), names.CONFIG_HASH: config_hash}
        operations: list[Manifest] = [
            {"op": "add", "path": f"/data/{FILE_NAME}", "value": text},
            {"op": "add", "path": "/metadata/annotations", "value": annotations},
        ]
        version = config_map["metadata"]["resourceVersion"]
        ref = ObjectRef.of(config_map)
        self._cache.put(self._client.patch_json(ref, operations, resource_version=version))
        _log.info("new jobs are to be refused: %s", ref)

    def _config(self, ref: ObjectRef, switch: _Switch, state: FleetState | None) -> ConfigState:
        pods = pod_views.of_component(self._cache.pods(ref), names.SCHEDULER)
        ready = {pod["metadata"]["name"] for pod in pods if pod_views.is_ready(pod)}
        return config_state(switch.config_hash, ready, state)

    def _tell(
        self,
        obj: Manifest,
        before: SchedulerStatus,
        draining: Draining,
        config: ConfigState,
        state: FleetState | None,
    ) -> None:
        facts = SchedulerFacts(draining=draining)
        found = dict(_UNKNOWN) if state is None else figures_of(state)
        if state is not None and config.hash:
            facts = SchedulerFacts(draining=draining, config=config)
            found |= {"config_hash": config.hash, "configured_replicas": config.configured}
        told = Told(scheduler_verdicts(facts), SCHEDULER_CONDITIONS, SCHEDULER_FIGURES)
        generation = Metadata.model_validate(obj["metadata"]).generation
        self._writer.write(obj, before, before.model_copy(update=found), told, generation)

    def _free(self, obj: Manifest) -> Outcome:
        self._cache.put(with_finalizer(self._client, obj, False))
        _log.info("it may go: nothing is left to wait for")
        return DONE

    def _find(self, ref: ObjectRef) -> Manifest | None:
        """What may not be watched is not in the cache, and there all the same."""
        cached = self._cache.get(ref)
        return cached if cached is not None else self._client.find(ref.kind, ref.namespace, ref.name)
