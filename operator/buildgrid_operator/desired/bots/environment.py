"""What a bot is told: the variables of its container, which our own bot and others like it read."""

from collections.abc import Iterable
from datetime import timedelta

from buildgrid_operator.desired.bots import names
from buildgrid_operator.desired.bots.connection import Connection
from buildgrid_operator.desired.bots.inputs import FleetInputs
from buildgrid_operator.desired.bots.properties import offered, told
from buildgrid_operator.desired.files import Files
from buildgrid_operator.desired.names import Json

PREFIX = "BUILDGRID_BOT_"
CACHE = "/var/cache/buildgrid"
"""The volume that inputs and work share, so that files can be linked."""
OWN_FIELDS = {
    "BOT_ID": "the scheduler knows the pod by it",
    "INSTANCE": "set spec.instance",
    "PROPERTIES": "set spec.properties",
    "WORKER_PROPERTIES": "set spec.workerProperties",
    "SLOTS": "set spec.slotsPerBot",
    "CAPACITY_CLASS": "set spec.capacityClass",
}
"""Variables that the number of bots is worked out from, or that they are known by, and what to do instead."""
_LIMIT = "ephemeral-storage"


def environment(
    inputs: FleetInputs, where: Connection, files: Files, *, token_lifetime: timedelta
) -> list[Json]:
    """The variables; `files` collects what they name."""
    spec, owner = inputs.spec, inputs.metadata
    found = [
        _variable("ENDPOINT", where.endpoint),
        _variable("CAS_ENDPOINT", where.cas_endpoint),
        _variable("INSTANCE", where.instance),
        {"name": f"{PREFIX}BOT_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        _variable("PROPERTIES", _lines(offered(spec))),
        _variable("WORKER_PROPERTIES", _lines(told(spec, owner.uid, inputs.cluster_uid))),
        _variable("SLOTS", str(spec.slots_per_bot)),
        _variable("CAPACITY_CLASS", spec.capacity_class),
        _variable("CACHE_DIR", f"{CACHE}/bot"),
        _disk(inputs),
        _variable("LOG_FORMAT", "json"),
    ]
    if where.log_stream_endpoint is not None:
        found.append(_variable("LOGSTREAM_ENDPOINT", where.log_stream_endpoint))
    if where.audience is not None:
        found.append(_variable("TOKEN_FILE", files.token("scheduler", where.audience, token_lifetime)))
    if where.authority is not None:
        found.append(_variable("TLS_CA", files.config_map(*where.authority)))
    if where.server_name is not None:
        found.append(_variable("TLS_SERVER_NAME", where.server_name))
    return found


def _disk(inputs: FleetInputs) -> Json:
    """The bound of all that the pod may write, of which the bot takes its share, or that of its cache."""
    if not _is_limited(inputs):
        return _variable("CACHE_BYTES", str(inputs.spec.cache_size))
    # Without a divisor it is bytes.
    field = {"containerName": names.BOT, "resource": f"limits.{_LIMIT}"}
    return {"name": f"{PREFIX}DISK_BYTES", "valueFrom": {"resourceFieldRef": field}}


def _is_limited(inputs: FleetInputs) -> bool:
    """Whether the container has a limit: without one the downward API tells what the node has."""
    limits = dict(inputs.spec.resources.limits)
    for container in inputs.template_containers():
        limits |= _map(_map(container.get("resources")).get("limits"))
    return limits.get(_LIMIT) is not None


def _map(value: object) -> Json:
    """What is no mapping is for the overlay, or the API server, to refuse."""
    return value if isinstance(value, dict) else {}


def _variable(name: str, value: str) -> Json:
    # $(NAME) would be replaced by the kubelet; $$ is a dollar.
    return {"name": f"{PREFIX}{name}", "value": value.replace("$", "$$")}


def _lines(properties: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"{key}={value}" for key, value in properties)
