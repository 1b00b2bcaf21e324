"""All fields of a spec, with their effects, and another value for each of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from buildgrid_operator.api import InvalidSpec, Scheduler, SchedulerSpec
from buildgrid_operator.api.effects import effect_of
from buildgrid_operator.api.model import ApiModel, Effect
from buildgrid_operator.api.schema import item_models
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from tests.cluster.api.objects import Json, changed

_OTHERS: tuple[Any, ...] = (
    True,
    False,
    *("7s", "61s", "3h", "90m", "150ms", "12s", "2s"),
    *("3Gi", "700Gi", "2Mi", "3Ti"),
    *(3, 4, 77, 8443, 30_500),
    *("Always", "Automatic", "Text", "Debug", "NodePort", "Cluster", "Delete", "Retain", "Deprioritize"),
    "Reject",
    *("other", "grpcs://other:1", "grpc://other:1", "https://other.example.org", "s3://other", "other:2"),
    *({"other": "Debug"}, {"other": "x"}, {"account_key": {"name": "other", "key": "k"}}, {}),
    {"limits": {"cpu": 3}},
    {"requests": {"cpu": "3"}},
    {"cpu": 3},
    {"spec": {"priorityClassName": "other"}},
    {"labels": {"other": "x"}},
    {"priorityClassName": "other"},
    {"name": "other", "key": "other"},
    {"name": "other"},
    *(["other"], ["OrganizationalUnit"], ["HS384"], ["ES256"], ["RunBots"], ["10.9.0.0/16"], "10.9.0.0/16"),
    *([{"name": "other"}], [{"namespace": "other"}], [{"subject": "other"}]),
    [{"identities": [{"subject": "other"}], "rights": ["RunBots"]}],
)  # fmt: skip
_WHOLE = frozenset({"SecretKeyRef", "CaSecretKeyRef", "ConfigMapKeyRef", "PodTemplate"})


@dataclass(frozen=True)
class Leaf:
    """A field that is no section, and what its change causes."""

    path: str
    field: FieldInfo
    effect: Effect | None

    def others(self) -> Iterator[Any]:
        """Values that such a field may have."""
        whole: Any = Annotated[(self.field.annotation, *self.field.metadata, None)]
        adapter: TypeAdapter[Any] = TypeAdapter(whole)
        for value in _OTHERS:
            try:
                adapter.validate_python(value)
            except ValidationError:
                continue
            yield value


def leaves(
    model: type[ApiModel] = SchedulerSpec, path: str = "spec", effect: Effect | None = None
) -> Iterator[Leaf]:
    """All of a spec; of lists of sections those of the first item."""
    for name, field in model.model_fields.items():
        here = f"{path}.{field.alias or name}"
        caused = effect_of(field) or effect
        models = item_models(field.annotation)
        listed = str(field.annotation).startswith("tuple")
        if models and models[0].__name__ not in _WHOLE and "dict" not in str(field.annotation)[:5]:
            yield from leaves(models[0], here + ("[0]" if listed else ""), caused)
        else:
            yield Leaf(here, field, caused)


def edited(base: Json, leaf: Leaf) -> Json | None:
    """The object with another value of the field; None where this object cannot have one."""
    before = Scheduler.parse(base).spec.to_dict()
    for other in leaf.others():
        try:
            obj = changed(base, {leaf.path: other})
            if Scheduler.parse(obj).spec.to_dict() != before:
                return obj
        except (
            InvalidSpec,
            LookupError,
            TypeError,
        ):  # the sections around it are not there, or do not allow it
            continue
    return None
