"""The configuration files: of the scheduler's replicas, and of the managed storage.

What is written is validated by the model of the program that reads it. The text depends on nothing but the
inputs, and its SHA-256 is what a replica reports when it has it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from buildgrid_scheduler.config.document import parse_document
from buildgrid_scheduler.config.model import Config
from buildgrid_scheduler.config.values import show_size
from pydantic import ValidationError

from buildgrid_operator.api.problems import InvalidSpec, Problem, show_path
from buildgrid_operator.desired import names
from buildgrid_operator.desired.auth import (
    INTERNAL_AUDIENCE,
    auth_of,
    fleet_section,
    has_fleet_port,
    scheduler_auth,
    storage_auth,
)
from buildgrid_operator.desired.files import Files
from buildgrid_operator.desired.inputs import Inputs
from buildgrid_operator.desired.names import Json
from buildgrid_operator.desired.sparse import sparse
from buildgrid_operator.desired.walk import configured, merge

FILE_NAME = "scheduler.yaml"
FOLDER = "/etc/buildgrid"
DATA = "/var/lib/buildgrid"
_HEAD = "# Written by buildgrid-operator for the Scheduler {}; what is changed here is undone.\n"
_EVERYWHERE: Json = {
    "listen": f"[::]:{names.GRPC_PORT}",
    "data": DATA,
    "monitoring": {"listen": f"[::]:{names.HTTP_PORT}"},
}
_STORES_ONLY = {"execution": False, "bots": False, "action_cache": False}


@dataclass(frozen=True, slots=True)
class Written:
    """A configuration file: its text, and the files that it refers to."""

    text: str
    files: Files

    @property
    def hash(self) -> str:
        """SHA-256 of the file, in hex, as a replica reports it."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def scheduler_config(inputs: Inputs) -> Written:
    """Of the scheduler's replicas. Raises InvalidSpec."""
    spec, files = inputs.spec, Files()
    values = configured(spec, files)
    merge(values, "", _EVERYWHERE)
    merge(values, "database", {"migrate": False})
    merge(values, "storage", _storage(inputs, files))
    if (section := _property_set(inputs)) is not None:
        values["property_set"] = section
    if (auth := auth_of(spec)) is not None:
        values["auth"] = scheduler_auth(inputs, auth, files)
    if has_fleet_port(spec):
        values["fleet"] = fleet_section(inputs, files)
    return _written(values, files, inputs)


def storage_config(inputs: Inputs) -> Written:
    """Of the managed storage, which must be wanted: the same program, with the CAS alone. Raises InvalidSpec.

    It serves each instance of the scheduler for bots, and the empty one for the replicas.
    """
    spec, files = inputs.spec, Files()
    values: Json = {}
    for section in (spec.grpc, spec.logging, spec.shutdown):
        merge(values, "", configured(section, files))
    merge(values, "", _EVERYWHERE)
    values["instances"] = ["", *(name for name in spec.instances if name)]
    merge(values, "services", _STORES_ONLY)
    values["storage"] = {"type": "disk", "max_bytes": show_size(storage_max_bytes(inputs))}
    if (auth := auth_of(spec)) is not None:
        values["auth"] = storage_auth(inputs, auth, files, for_all=is_storage_direct(inputs))
    return _written(values, files, inputs)


def is_storage_direct(inputs: Inputs) -> bool:
    """Whether bots may use the managed storage past the replicas.

    The storage itself does not speak TLS: where the scheduler does, blobs and tokens stay behind it.
    """
    return inputs.spec.storage.managed is not None and inputs.spec.tls is None


def storage_max_bytes(inputs: Inputs) -> int:
    """The bound of the managed storage: what the spec says, or 90 % of the volume."""
    managed = inputs.spec.storage.managed
    if managed is None:
        raise ValueError("there is no managed storage")
    return managed.size * 9 // 10 if managed.max_bytes is None else managed.max_bytes


def property_set_in(text: str) -> Json | None:
    """The section of a configuration that was written, to hold it in force; None: the built-in one."""
    section: Json | None = parse_document(text, FILE_NAME, {}).values.get("property_set")
    return section


def refusing_jobs(text: str) -> str:
    """A configuration that was written, with new jobs refused: those that wait or run go on. Reloaded.

    Nothing else of it changes, so that replicas of any version that has the field take it up. Raises
    ValueError for a text that is not a configuration.
    """
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{FILE_NAME} in the ConfigMap is not YAML: {error}") from error
    match values:
        case {"scheduler": {"accept_new_jobs": False}}:
            return text
        case {"scheduler": dict() as section}:
            section["accept_new_jobs"] = False
        case {"listen": _}:
            values["scheduler"] = {"accept_new_jobs": False}
        case _:
            raise ValueError(f"{FILE_NAME} in the ConfigMap is not a configuration")
    first, newline, _ = text.partition("\n")
    head = first + newline if first.startswith("#") else ""
    return head + yaml.safe_dump(values, sort_keys=False, width=110)


def _storage(inputs: Inputs, files: Files) -> Json:
    storage, owner = inputs.spec.storage, inputs.metadata
    if storage.object_store is not None:
        return {"type": "object-store"}
    if storage.remote is not None:
        return {"type": "remote"}
    address = names.host(owner, names.storage_name(owner), inputs.settings.cluster_domain)
    section: Json = {"type": "remote", "endpoint": f"grpc://{address}:{names.GRPC_PORT}"}
    if auth_of(inputs.spec) is not None:
        section["token_file"] = files.token("storage", INTERNAL_AUDIENCE)
    return section


def _property_set(inputs: Inputs) -> Json | None:
    if inputs.held_property_set is not None:
        return {"kind": "dynamic", **inputs.held_property_set}
    reference = inputs.spec.property_set_ref
    if reference is None:
        return None
    if inputs.property_set is None:
        message = f"there is no PropertySet {reference.name} in this namespace; make it, or name another"
        raise InvalidSpec([Problem("spec.propertySetRef.name", message)])
    section: Json = configured(inputs.property_set, Files())["property_set"]
    kind = "static" if inputs.property_set.static is not None else "dynamic"
    if section.get("label_key") == "":
        section["label_key"] = None
    return {"kind": kind, **section}


def _written(values: Json, files: Files, inputs: Inputs) -> Written:
    try:
        read = Config.model_validate(values)
    except ValidationError as error:
        raise InvalidSpec(
            Problem("spec", f"gives a configuration that no scheduler takes: {_words(found)}")
            for found in error.errors(include_url=False, include_input=False)
        ) from error
    owner = inputs.metadata
    text = yaml.safe_dump(_literal(sparse(values, read)), sort_keys=False, width=110)
    return Written(_HEAD.format(f"{owner.namespace}/{owner.name}") + text, files)


def _words(found: Mapping[str, Any]) -> str:
    return f"{show_path(found['loc'])}: {found['msg']}"


def _literal(value: Any) -> Any:
    """Text as it is: the scheduler puts variables of its environment where there is `${`."""
    match value:
        case str():
            return value.replace("${", "$${")
        case dict():
            return {name: _literal(inner) for name, inner in value.items()}
        case list():
            return [_literal(inner) for inner in value]
    return value
