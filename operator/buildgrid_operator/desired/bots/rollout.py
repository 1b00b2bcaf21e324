"""What replaces bots: fields that people see, the resolved image, and how the Scheduler is reached.

Not how the operator writes a pod: so an upgrade of it replaces none.
"""

import hashlib
import json
from dataclasses import asdict

from buildgrid_operator.api.effects import rollout_view
from buildgrid_operator.desired.bots.connection import connection
from buildgrid_operator.desired.bots.inputs import FleetInputs
from buildgrid_operator.desired.names import Json


def bot_template_hash(inputs: FleetInputs) -> str:
    """Of the pods that would be made now."""
    found: Json = {
        "image": inputs.image,
        "spec": rollout_view(inputs.spec),
        "connection": _seen(inputs),
        "cluster": inputs.cluster_uid,
    }
    text = json.dumps(found, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _seen(inputs: FleetInputs) -> Json:
    """Without what is not there, so that a newer operator may know more of it."""
    seen = {name: value for name, value in asdict(connection(inputs)).items() if value is not None}
    longest = seen.pop("longest_action")
    if inputs.spec.termination_grace_period is None:
        seen["longest_action"] = longest.total_seconds()
    return seen
