"""`buildgrid-operator drain`: before an uninstallation, so that nothing is left that nobody looks after.

The release's own Schedulers with spec.deletion.drain are deleted, and the operator, which still runs, drains
them: new jobs are refused, the others end. Unless jobs may be given up it waits before that until there are
none, or refuses. Then it stops the operator, frees all Schedulers of our finalizer, and removes the Lease.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kubernetes.config import ConfigException

from buildgrid_operator.cli.flags import (
    FAILED,
    USELESS,
    Flags,
    add_connection,
    add_namespaces,
    connected,
    duration,
    namespaces_of,
)
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import ClusterError, Conflict, KindMissing, NotFound
from buildgrid_operator.cluster.kinds import DEPLOYMENT, LEASE, SCHEDULER, Manifest, ObjectRef
from buildgrid_operator.process.leadership import LeaseView
from buildgrid_operator.reconcile.deletion import is_held, with_finalizer

_POLL = 1.0
_STOPPING = timedelta(seconds=60)
"""An operator has 30 s to end, and its Lease runs out 15 s after it was killed."""
_SETTLING = timedelta(seconds=30)
"""until the replicas of a Scheduler without jobs refuse new ones, and it is gone"""
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Release:
    """What is uninstalled."""

    name: str
    namespace: str
    deployment: str
    """the operator's"""
    lease: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    flags = Flags(parser)
    flags.one("--release", required=True, metavar="NAME", help="the Helm release")
    flags.one("--release-namespace", required=True, metavar="NAME", help="where it is installed")
    flags.one("--operator-deployment", required=True, metavar="NAME", help="the operator's Deployment, there")
    flags.one(
        "--leader-election-name", "buildgrid-operator", metavar="NAME", help="the operator's Lease, there"
    )
    flags.one("--timeout", "1m", type=duration, metavar="TIME", help="for jobs to end (default: 1m)")
    flags.one(
        "--when-busy",
        "refuse",
        choices=("refuse", "proceed"),
        help="when jobs are left then: change nothing and fail, or give them up; with proceed new jobs are "
        "refused meanwhile (default: refuse)",
    )
    add_namespaces(flags)
    add_connection(flags)


def run(options: argparse.Namespace) -> int:
    """Returns the exit code: 3 when it refuses."""
    try:
        namespaces = namespaces_of(options) or (None,)
        release = Release(
            options.release,
            options.release_namespace,
            options.operator_deployment,
            options.leader_election_name,
        )
        drain = Drain(connected(options), release, namespaces)
        refuse = options.when_busy == "refuse"
        if refuse and not drain.wait_for_jobs(options.timeout):
            print(
                "nothing was changed: wait and uninstall again; or helm rollback, then helm upgrade with "
                "uninstall.whenBusy=Proceed, and uninstall",
                file=sys.stderr,
            )
            return USELESS
        gone = drain.delete(_SETTLING if refuse else options.timeout)
        # An operator that does not run drains nothing: what counts is whether there are jobs.
        if refuse and not gone and drain.jobs():
            print("jobs came meanwhile; no more are taken: wait, and uninstall again", file=sys.stderr)
            return USELESS
        drain.stop_operator()
        drain.free()
        drain.remove_lease()
    except ValueError as error:
        print(f"buildgrid-operator: {error}", file=sys.stderr)
        return USELESS
    except (ClusterError, ConfigException) as error:
        print(f"buildgrid-operator: {error}", file=sys.stderr)
        return FAILED
    return 0


class Drain:
    """The steps. Each can be done again. They raise ClusterError."""

    def __init__(
        self,
        client: Client,
        release: Release,
        namespaces: tuple[str | None, ...],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._release = release
        self._namespaces = namespaces
        self._monotonic = monotonic
        self._sleep = sleep

    def wait_for_jobs(self, timeout: timedelta) -> bool:
        """Whether no Scheduler of the release that is to drain has jobs; waits for it so long."""
        return self._wait(self.jobs, timeout)

    def jobs(self) -> list[str]:
        """What the Schedulers of the release that are to drain have left, in words."""
        return [words for obj in self._own() if (words := jobs_left(obj))]

    def delete(self, timeout: timedelta) -> bool:
        """Delete the Schedulers of the release that are to drain; whether all are gone within this time."""
        for obj in self._own():
            if is_held(obj):
                self._client.delete(ObjectRef.of(obj), uid=obj["metadata"]["uid"])
                print(f"{ObjectRef.of(obj)}: deleted, and drains")
        return self._wait(lambda: [_told(obj) for obj in self._own() if is_held(obj)], timeout)

    def stop_operator(self) -> None:
        """Scale it to nothing, since it would set finalizers again, and wait until it leads no longer."""
        ref = ObjectRef(DEPLOYMENT, self._release.namespace, self._release.deployment)
        try:
            self._client.patch_merge(ref, {"spec": {"replicas": 0}}, subresource="scale")
        except NotFound:
            return
        print(f"{ref}: scaled to 0")

        def running() -> list[str]:
            lease = self._client.find(LEASE, self._release.namespace, self._release.lease)
            deployment = self._client.find(ref.kind, ref.namespace, ref.name)
            pods = ((deployment or {}).get("status") or {}).get("replicas")
            return ["the operator still runs"] if pods or is_held_by_somebody(lease) else []

        for words in self._until_empty(running, _STOPPING):
            print(f"{words}; goes on all the same", file=sys.stderr)

    def free(self) -> None:
        """Remove our finalizer from all Schedulers."""
        for namespace in self._namespaces:
            for obj in self._list(namespace):
                if is_held(obj):
                    self._free(obj)
                    print(f"{ObjectRef.of(obj)}: freed")

    def remove_lease(self) -> None:
        """The operator's, which Helm does not know of, unless one still leads."""
        lease = self._client.find(LEASE, self._release.namespace, self._release.lease)
        if lease is not None and not is_held_by_somebody(lease):
            self._client.delete(ObjectRef.of(lease), uid=lease["metadata"]["uid"])
            print(f"{ObjectRef.of(lease)}: removed")

    def _free(self, obj: Manifest) -> None:
        ref = ObjectRef.of(obj)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with_finalizer(self._client, obj, False)
            except NotFound:
                return
            except Conflict:
                if attempt == _ATTEMPTS:
                    raise
                found = self._client.find(ref.kind, ref.namespace, ref.name)
                if found is None:
                    return
                obj = found
            else:
                return

    def _own(self) -> tuple[Manifest, ...]:
        labels = f"app.kubernetes.io/managed-by=Helm,app.kubernetes.io/instance={self._release.name}"
        return self._list(self._release.namespace, labels)

    def _wait(self, look: Callable[[], list[str]], timeout: timedelta) -> bool:
        for words in (found := self._until_empty(look, timeout)):
            print(words, file=sys.stderr)
        return not found

    def _list(self, namespace: str | None, labels: str = "") -> tuple[Manifest, ...]:
        try:
            return self._client.list(SCHEDULER, namespace, labels=labels).items
        except KindMissing:
            return ()

    def _until_empty(self, look: Callable[[], list[str]], timeout: timedelta) -> list[str]:
        deadline = self._monotonic() + timeout.total_seconds()
        while (found := look()) and self._monotonic() < deadline:
            self._sleep(_POLL)
        return found


def _told(scheduler: Manifest) -> str:
    """What the operator tells of one that is deleted."""
    conditions = (scheduler.get("status") or {}).get("conditions") or ()
    ready = next((each["message"] for each in conditions if each["type"] == "Ready"), "")
    return f"{ObjectRef.of(scheduler)}: {ready or 'is not gone'}"


def jobs_left(scheduler: Mapping[str, Any]) -> str:
    """What a Scheduler that is to drain has left, in words; empty: nothing, or it is not to drain."""
    spec, status = scheduler.get("spec") or {}, scheduler.get("status") or {}
    if not (spec.get("deletion") or {}).get("drain") or not status.get("version"):
        return ""
    ref = ObjectRef.of(scheduler)
    queued, executing = status.get("queuedJobs"), status.get("executingJobs")
    if queued is None or executing is None:
        return f"{ref}: how many jobs it has is not known"
    return f"{ref}: {executing} jobs executing, {queued} queued" if queued or executing else ""


def is_held_by_somebody(lease: Manifest | None, now: datetime | None = None) -> bool:
    """Whether an operator leads, as far as its Lease says."""
    if lease is None:
        return False
    view = LeaseView.of(lease)
    if not view.holder or not view.renewed:
        return False
    return (now or datetime.now(UTC)) - datetime.fromisoformat(view.renewed) < view.duration
