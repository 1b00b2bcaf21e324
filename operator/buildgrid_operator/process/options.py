"""How the operator is started."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from buildgrid_operator.desired import Settings
from buildgrid_operator.process.watching import RELIST
from buildgrid_operator.reconcile.work_queue import WORKERS


@dataclass(frozen=True, slots=True)
class Options:
    """What `buildgrid-operator run` was told."""

    settings: Settings
    """what decides which objects there should be; what the cluster knows is found out"""
    lease_namespace: str
    identity: str
    """the pod's name, or something else that is unique"""
    namespaces: tuple[str, ...] = ()
    """the ones that it looks after; empty: all"""
    lease_name: str = "buildgrid-operator"
    monitoring: str = ":8080"
    """HOST:PORT of metrics and health"""
    external_scaler: str | None = None
    """HOST:PORT of KEDA's external scaler; None: nowhere"""
    log_form: Literal["json", "text"] = "json"
    log_level: str = "info"
    ca_file: Path | None = None
    """PEM of who signs the certificates of Schedulers with TLS that do not say it themselves"""
    fleet_endpoint: str | None = None
    """where Schedulers are reached from outside of the cluster: see `FleetClient`"""
    kubeconfig: Path | None = None
    context: str | None = None
    workers: int = WORKERS
    relist: timedelta = RELIST
