"""Each field of the scheduler's configuration can be set through the API, or there is a reason."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from buildgrid_operator.api import PropertySetSpec, SchedulerSpec
from buildgrid_operator.api.durations import Duration, parse_duration
from buildgrid_operator.api.effects import effect_of
from buildgrid_operator.api.model import ApiModel, Config, Effect
from buildgrid_operator.api.quantities import Quantity, parse_quantity
from buildgrid_operator.api.schema import item_models, unwrapped
from buildgrid_operator.api.shapes import Range
from buildgrid_operator.api.words import config_word
from buildgrid_scheduler.config.fields import is_reloadable, items_models, models_of
from buildgrid_scheduler.config.model import Config as SchedulerConfig
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

SET_BY_THE_OPERATOR = {
    "listen": "the port is the Service's affair",
    "data": "a fixed folder of the pod",
    "database.url": "only as a file",
    "database.read_url": "only as a file",
    "database.notify_url": "only as a file",
    "database.migrate": "the init container migrates",
    "monitoring.listen": "a fixed port",
    "storage.type": "follows from which storage is set",
    "storage.path": "the volume's folder",
    "storage.spool_path": "a folder of the pod",
    "storage.tier.path": "a folder of the pod",
    "property_set.kind": "follows from which kind is set",
    "action_cache.type": "always the database",
    "services.execution": "a scheduler does",
    "services.bots": "a scheduler does",
    "services.cas": "a scheduler does",
    "services.action_cache": "a scheduler does",
    "scheduler.poll_interval": "for poolers without LISTEN there is notifyUrlSecretRef",
    "scheduler.accept_new_jobs": "off while a Scheduler that is deleted drains",
    "scheduler.metrics_publish_interval": "for programs that embed the scheduler",
    "shutdown.delay": "the pod's preStop",
    "reload.interval": "fixed, so that an edit is in force within seconds",
}
REMOTE_ACTION_CACHE = (
    "endpoint", "ca_file", "client_certificate_file", "client_key_file", "token_file", "instance_name",
    "lookup_tolerance", "outage_tolerance",
)  # fmt: skip
"""The action cache is in the database in every mode of the operator."""
FLEET = "fleet."
"""The operator's own port: it says itself who may come to it."""

NOT_YET_IN_THE_CONFIGURATION = {"database.read_url_file", "database.notify_url_file"}

OTHER_DEFAULTS = {
    "shutdown.grace": "pods have more time",
    "storage.max_bytes": "follows from the volume's size",
    "scheduler.queue_timeout": "unset on both sides",
    "storage.refresh_after": "0s stands for null",
}


@dataclass(frozen=True)
class ConfigField:
    field: FieldInfo
    reloadable: bool
    default: Any


@dataclass(frozen=True)
class ApiField:
    path: str
    field: FieldInfo
    effect: Effect | None


def config_fields(
    model: type[BaseModel], prefix: str = "", reloadable: bool = False
) -> dict[str, ConfigField]:
    """Fields that hold a value, by their dotted path; those of a choice all together."""
    found: dict[str, ConfigField] = {}
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        here = reloadable or is_reloadable(field)
        below = [*models_of(field.annotation), *items_models(field.annotation)]
        for inner in below:
            found |= config_fields(inner, f"{path}.", here)
        if not below:
            default = None if field.is_required() else field.get_default(call_default_factory=False)
            found[path] = ConfigField(field, here, default)
    return found


def api_fields(
    model: type[ApiModel], api: str = "spec", config: str = "", effect: Effect | None = None
) -> Iterator[tuple[str, ApiField]]:
    """(path in the configuration, field) of everything that says where it goes."""
    for field in model.model_fields.values():
        here = effect_of(field) or effect
        path = f"{api}.{field.alias}"
        marks = [
            mark for mark in unwrapped(field.annotation, tuple(field.metadata))[1] if isinstance(mark, Config)
        ]
        targets = [f"{config}{target}" for mark in marks for target in mark.paths]
        for target in targets:
            yield target, ApiField(path, field, here)
        for inner in item_models(field.annotation):
            yield from api_fields(inner, path, f"{targets[0]}." if targets else config, here)


CONFIG = config_fields(SchedulerConfig)
API = [*api_fields(SchedulerSpec), *api_fields(PropertySetSpec)]
VALUES = [(target, api) for target, api in API if target in CONFIG]


def test_each_field_of_the_configuration_has_one_in_the_api_or_a_reason() -> None:
    told = {target for target, _ in API}
    remote = {f"action_cache.{name}" for name in REMOTE_ACTION_CACHE}
    own = {path for path in CONFIG if path.startswith(FLEET)}
    assert CONFIG.keys() - told - SET_BY_THE_OPERATOR.keys() - remote == own


def test_no_reason_is_left_of_a_field_that_is_gone_or_can_be_set() -> None:
    told = {target for target, _ in API}
    assert SET_BY_THE_OPERATOR.keys() - CONFIG.keys() == set()
    assert SET_BY_THE_OPERATOR.keys() & told == set()


def test_each_field_goes_to_one_that_there_is() -> None:
    sections = {path.rsplit(".", 1)[0] for path in CONFIG} | {path.split(".")[0] for path in CONFIG}
    assert {target for target, _ in API} - CONFIG.keys() - sections <= NOT_YET_IN_THE_CONFIGURATION


@pytest.mark.parametrize(("target", "api"), VALUES, ids=[f"{api.path}-{target}" for target, api in VALUES])
def test_a_field_is_reloaded_where_the_scheduler_reloads_it(target: str, api: ApiField) -> None:
    if target == "shutdown.grace":
        return  # the pod's own grace period has to follow
    assert (api.effect is Effect.RELOAD) == CONFIG[target].reloadable


@pytest.mark.parametrize(("target", "api"), VALUES, ids=[f"{api.path}-{target}" for target, api in VALUES])
def test_defaults_are_the_scheduler_s_own(target: str, api: ApiField) -> None:
    if api.field.is_required() or target in OTHER_DEFAULTS:
        return
    ours = api.field.get_default(call_default_factory=True, validated_data={})
    if isinstance(ours, timedelta | int):
        assert ours == CONFIG[target].default


@pytest.mark.parametrize(("target", "api"), VALUES, ids=[f"{api.path}-{target}" for target, api in VALUES])
def test_the_scheduler_accepts_all_that_the_api_accepts(target: str, api: ApiField) -> None:
    spec = CONFIG[target].field
    whole: Any = Annotated[(spec.annotation, *spec.metadata)] if spec.metadata else spec.annotation
    adapter = TypeAdapter[Any](whole)
    for mark in unwrapped(api.field.annotation, tuple(api.field.metadata))[1]:
        for bound in _bounds(mark):
            adapter.validate_python(bound)


@pytest.mark.parametrize(("target", "api"), VALUES, ids=[f"{api.path}-{target}" for target, api in VALUES])
def test_words_become_the_scheduler_s_words(target: str, api: ApiField) -> None:
    words = choices_below(api.field.annotation)
    known = choices_below(CONFIG[target].field.annotation)
    assert {word if word in known else config_word(word) for word in words} == (known if words else set())


def choices_below(annotation: Any) -> set[str]:
    """The words of all Literals in an annotation."""
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    return {word for part in get_args(annotation) for word in choices_below(part)}


def _bounds(mark: object) -> list[Any]:
    if isinstance(mark, Duration):
        return [parse_duration(mark.minimum), parse_duration(mark.maximum)]
    if isinstance(mark, Quantity):
        return [parse_quantity(mark.minimum), parse_quantity(mark.maximum)]
    return [mark.minimum, mark.maximum] if isinstance(mark, Range) else []
