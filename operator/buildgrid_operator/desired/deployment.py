"""The Deployment of the replicas."""

from buildgrid_operator.desired import names
from buildgrid_operator.desired.config import Written
from buildgrid_operator.desired.images import version_of
from buildgrid_operator.desired.inputs import Inputs
from buildgrid_operator.desired.names import Json
from buildgrid_operator.desired.pod import scheduler_pod
from buildgrid_operator.desired.rollout import with_template_noted


def deployment(inputs: Inputs, written: Written, template_hash: str) -> Json:
    """Replicas that are replaced one after the other, each once the new one serves. Raises InvalidSpec."""
    owner = inputs.metadata
    replicas = {} if inputs.autoscaled else {"replicas": inputs.spec.replicas}
    version = version_of(inputs.images.scheduler)
    wanted = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": names.metadata(owner, names.scheduler_name(owner), names.SCHEDULER, version=version),
        "spec": {
            **replicas,
            "revisionHistoryLimit": 3,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": names.selector(owner, names.SCHEDULER)},
            "template": scheduler_pod(inputs, written, template_hash),
        },
    }
    return with_template_noted(wanted, template_hash)
