"""What all objects of the API have in common.

A field is described by the string below it, which goes to the CRD and to the reference page. Its annotation
carries its bounds (shapes), where it goes in the scheduler's configuration (`Config`), and what a change of
it causes (`Effect`). A field without an effect has that of the section around it.
"""

from enum import Enum
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel

from buildgrid_operator.api.rules import Rule, RuleErrors, Transition


class Effect(Enum):
    """What a change of a field causes."""

    RELOAD = "reload"
    """running replicas take it up, no pod restarts"""
    ROLLOUT = "rollout"
    """the pods are replaced, one after the other"""
    APPLY = "apply"
    """other objects change; the scheduler's pods stay"""


class Config:
    """Which fields of the scheduler's configuration a field becomes, below the one of its section."""

    def __init__(self, *paths: str) -> None:
        self.paths = paths


class Unwritten:
    """Marks a default that the operator knows and the API server does not fill in.

    For choices: what the API server had filled in would stay, beside another choice that is made later.
    """


class ApiModel(BaseModel):
    """An object with known fields; unknown ones are errors. Null is unset, as for the API server."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, use_attribute_docstrings=True
    )
    rules: ClassVar[tuple[Rule, ...]] = ()
    transitions: ClassVar[tuple[Transition, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _keeps_its_rules(self) -> "ApiModel":
        broken = [(rule.field, rule.message) for rule in self.rules if not rule.check(self)]
        if broken:
            raise RuleErrors(broken)
        return self

    def to_dict(self) -> dict[str, Any]:
        """As in the API: camelCase, durations and sizes as text, with defaults, without what is unset."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
