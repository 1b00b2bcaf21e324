"""An object of the API as a whole: what the API server wraps around the spec, and reading it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.alias_generators import to_camel

from buildgrid_operator.api.model import ApiModel
from buildgrid_operator.api.problems import InvalidSpec, Problem, problems_of
from buildgrid_operator.api.rules import Rule

GROUP = "buildgrid.build"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class Metadata(BaseModel):
    """What the operator reads of an object's metadata. Times are RFC 3339, as the API server writes them."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`. `wide`: with `-o wide` only."""

    name: str
    json_path: str
    description: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Names:
    """How a kind is called."""

    kind: str
    plural: str
    short: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Where the scale subresource finds what it shows, as JSON paths."""

    replicas: str
    """what `kubectl scale` sets"""
    status_replicas: str
    status_selector: str


S = TypeVar("S", bound=ApiModel)
T = TypeVar("T", bound=ApiModel)


@dataclass(frozen=True, slots=True)
class Resource(Generic[S, T]):
    """An object as it was read: metadata, spec, and status (whose content is never a reason to refuse it)."""

    metadata: Metadata
    spec: S
    status: T

    names: ClassVar[Names]
    description: ClassVar[str]
    spec_model: ClassVar[type[ApiModel]]
    status_model: ClassVar[type[ApiModel]]
    columns: ClassVar[tuple[Column, ...]]
    scale: ClassVar[Scale | None] = None
    """its scale subresource; None: it has none"""
    name_rule: ClassVar[Rule]
    """what metadata.name must keep to; its predicate gets the name"""

    @classmethod
    def parse(cls, obj: Mapping[str, Any]) -> Self:
        """From an object as the API server returns it.

        Raises InvalidSpec with everything that is wrong with the name and the spec. A status that cannot be
        read (another version of the operator wrote it) is an empty one.
        """
        metadata = Metadata.model_validate(obj["metadata"])
        problems = []
        if not cls.name_rule.check(metadata.name):
            problems.append(Problem(cls.name_rule.field, cls.name_rule.message))
        whole = _wrapped(cls.spec_model)
        try:
            spec = getattr(whole.model_validate({"spec": obj.get("spec")}), "spec")  # noqa: B009
        except ValidationError as error:
            raise InvalidSpec([*problems, *problems_of(error, whole)]) from None
        if problems:
            raise InvalidSpec(problems)
        try:
            status = cls.status_model.model_validate(obj.get("status") or {})
        except ValidationError:
            status = cls.status_model()
        return cls(metadata, cast(S, spec), cast(T, status))


@cache
def _wrapped(spec: type[ApiModel]) -> type[ApiModel]:
    """A model with the field `spec`, so that places of errors begin with it."""
    return create_model("Whole", __base__=ApiModel, spec=(spec, ...))


def update_problems(old: ApiModel, new: ApiModel, path: str = "spec") -> list[Problem]:
    """Why an edit is refused that makes `new` of `old`, each valid by itself: the CRD's transition rules.

    As there, items of lists are not compared.
    """
    return list(_update_problems(old, new, path))


def _update_problems(old: ApiModel, new: ApiModel, path: str) -> Iterator[Problem]:
    for rule in new.transitions:
        if not rule.check(new, old):
            yield Problem(f"{path}.{rule.field}" if rule.field else path, rule.message)
    for name, field in type(new).model_fields.items():
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, ApiModel) and isinstance(after, ApiModel):
            yield from _update_problems(before, after, f"{path}.{field.alias or name}")
