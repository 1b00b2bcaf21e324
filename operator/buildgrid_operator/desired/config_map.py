"""ConfigMaps: the configurations, and the cluster's public keys. None of them holds a secret."""

from buildgrid_operator.desired import names
from buildgrid_operator.desired.auth import JWKS_KEY, cluster_tokens
from buildgrid_operator.desired.config import FILE_NAME, Written
from buildgrid_operator.desired.inputs import Inputs
from buildgrid_operator.desired.names import Json


def config_map(inputs: Inputs, written: Written, component: str) -> Json:
    """The configuration of a component."""
    owner = inputs.metadata
    name = names.config_name(owner) if component == names.SCHEDULER else names.storage_config_name(owner)
    annotations = {names.CONFIG_HASH: written.hash}
    return _config_map(
        names.metadata(owner, name, component, annotations=annotations), {FILE_NAME: written.text}
    )


def jwks(inputs: Inputs) -> Json:
    """What tokens of this cluster are checked with. Raises InvalidSpec where that is not known."""
    owner = inputs.metadata
    meta = names.metadata(owner, names.jwks_name(owner), names.SCHEDULER)
    return _config_map(meta, {JWKS_KEY: cluster_tokens(inputs).jwks})


def _config_map(metadata: Json, data: dict[str, str]) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
