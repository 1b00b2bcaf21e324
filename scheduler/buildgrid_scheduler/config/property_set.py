"""Which platform properties there are, and what they mean for matching."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from buildgrid_scheduler.config.section import RELOADABLE, FieldError, Section


def _once_each(keys: Any) -> Any:
    """A set would swallow what is there twice, as does somebody who reads it."""
    if isinstance(keys, list):
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise FieldError(str(number), f"{key!r} is there twice; keep one")
    return keys


PropertyKeys = Annotated[frozenset[str], BeforeValidator(_once_each)]


def _known(values: dict[str, Any]) -> frozenset[str]:
    """The keys of a section whose first fields are validated; those that are not valid are no keys."""
    match: frozenset[str] = values.get("match_property_keys", frozenset())
    wildcard: frozenset[str] = values.get("wildcard_property_keys", frozenset())
    return match | wildcard


def _usual_unique(values: dict[str, Any]) -> frozenset[str]:
    return frozenset({"OSFamily", "ISA", "Pool"}) & _known(values)


def _usual_label(values: dict[str, Any]) -> str | None:
    return "Pool" if "Pool" in _known(values) else None


class DynamicPropertySetConfig(Section):
    """Any combination of known keys."""

    kind: Literal["dynamic"] = Field(default="dynamic")
    """dynamic: jobs and bots combine known keys freely"""
    match_property_keys: PropertyKeys = Field(
        default=frozenset({"OSFamily", "ISA", "Pool", "container-image"})
    )
    """keys that constrain which bots may take a job"""
    wildcard_property_keys: PropertyKeys = Field(default=frozenset())
    """keys that are accepted and do not constrain"""
    unique_property_keys: PropertyKeys = Field(default_factory=_usual_unique)
    """keys that may have one value only; unset: those of OSFamily, ISA and Pool that are known"""
    label_key: str | None = Field(default_factory=_usual_label)
    """the key whose value labels a job in metrics and limits; null: all jobs are labelled `unknown`;
    unset: Pool, if that is known"""

    @model_validator(mode="after")
    def _keys_are_known(self) -> "DynamicPropertySetConfig":
        known = self.match_property_keys | self.wildcard_property_keys
        if both := self.match_property_keys & self.wildcard_property_keys:
            default = "" if "match_property_keys" in self.model_fields_set else ", as it is by default"
            raise FieldError(
                "wildcard_property_keys",
                f"{', '.join(sorted(both))}: must not be in match_property_keys, too{default}; a key "
                "constrains, or it does not",
            )
        if strange := self.unique_property_keys - known:
            raise FieldError(
                "unique_property_keys",
                f"{', '.join(sorted(strange))}: must also be in match_property_keys or "
                "wildcard_property_keys",
            )
        if self.label_key is not None and self.label_key not in known:
            raise FieldError(
                "label_key",
                f"{self.label_key}: must also be in match_property_keys or wildcard_property_keys; "
                "null for no labels",
            )
        return self


class PropertyConfig(Section):
    """One platform property."""

    key: str = Field(min_length=1)
    """its name, for example OSFamily"""
    value: str = Field(json_schema_extra=RELOADABLE)
    """its value, for example linux"""


class PropertyLabelConfig(Section):
    """A class of jobs, and all that a bot must offer to run them."""

    label: str = Field(min_length=1)
    """shown in metrics and used in limits"""
    properties: tuple[PropertyConfig, ...] = Field(default=())
    """a job of the label may name any of them, and its bot must offer all"""


class StaticPropertySetConfig(Section):
    """An ordered list of labels; a job belongs to the first one that has all its properties."""

    kind: Literal["static"] = Field(default="static")
    """static: jobs and bots fit one of the labels below"""
    labels: tuple[PropertyLabelConfig, ...] = Field(min_length=1)
    """in the order in which they are tried"""
    wildcard_property_keys: PropertyKeys = Field(default=frozenset())
    """keys that are accepted in jobs and do not count"""

    @model_validator(mode="after")
    def _distinct(self) -> "StaticPropertySetConfig":
        seen: set[str] = set()
        for number, label in enumerate(self.labels):
            if label.label in seen:
                raise FieldError(
                    f"labels.{number}.label", f"{label.label!r} is there twice; name it otherwise"
                )
            seen.add(label.label)
        return self


PropertySetConfig = Annotated[DynamicPropertySetConfig | StaticPropertySetConfig, Field(discriminator="kind")]
