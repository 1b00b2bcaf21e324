"""A ServiceMonitor of the Prometheus operator, where spec.monitoring.serviceMonitor asks for one."""

from buildgrid_operator.api.durations import show_duration
from buildgrid_operator.desired import names
from buildgrid_operator.desired.inputs import Inputs
from buildgrid_operator.desired.names import Json

API_VERSION = "monitoring.coreos.com/v1"


def service_monitor(inputs: Inputs) -> Json | None:
    """Every pod of the Scheduler that has metrics: the replicas, and the managed storage."""
    wanted = inputs.spec.monitoring.service_monitor
    if wanted is None:
        return None
    owner = inputs.metadata
    metadata = names.metadata(owner, names.scheduler_name(owner), names.SCHEDULER)
    ours = {names.SCHEDULER_LABEL: owner.name, names.OWNER_UID_LABEL: owner.uid}
    return {
        "apiVersion": API_VERSION,
        "kind": "ServiceMonitor",
        "metadata": {**metadata, "labels": {**wanted.labels, **metadata["labels"]}},
        "spec": {
            "jobLabel": "app.kubernetes.io/component",
            "selector": {"matchLabels": ours},
            "endpoints": [
                {
                    "port": names.HTTP,
                    "path": "/metrics",
                    "interval": show_duration(wanted.interval),
                    "scrapeTimeout": show_duration(wanted.scrape_timeout),
                }
            ],
        },
    }
