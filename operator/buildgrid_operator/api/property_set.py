"""`PropertySet`: which platform properties there are, and what they mean for matching."""

from dataclasses import dataclass
from typing import Annotated

from buildgrid_operator.api.model import ApiModel, Config, Effect
from buildgrid_operator.api.resource import Column, Names, Resource
from buildgrid_operator.api.rules import Rule, exactly_one_of, unique
from buildgrid_operator.api.shapes import Items, Text
from buildgrid_operator.api.status import PropertySetStatus

USUAL_KEYS = ("OSFamily", "ISA", "Pool")
"""What uniqueKeys and labelKey are by default, as far as the set knows them."""
LABEL_CHARACTERS = 200
"""A job's label is shown in metrics; the scheduler refuses longer ones."""

PropertyKey = Annotated[str, Text(128, 1)]
Keys = tuple[PropertyKey, ...]


class DynamicPropertySet(ApiModel):
    """Jobs and bots combine known keys freely; other keys are refused."""

    match_keys: Annotated[Keys, Items(64, 0, "set"), Config("match_property_keys")] = (
        "OSFamily",
        "ISA",
        "Pool",
        "container-image",
    )
    """keys that constrain which bots may take a job"""
    wildcard_keys: Annotated[Keys, Items(64, 0, "set"), Config("wildcard_property_keys")] = ()
    """keys that are accepted and do not constrain"""
    unique_keys: Annotated[Keys | None, Items(128, 0, "set"), Config("unique_property_keys")] = None
    """keys that may have one value only; unset: those of OSFamily, ISA and Pool that are known; `[]`: none"""
    label_key: Annotated[str | None, Text(128), Config("label_key")] = None
    """the key whose value labels a job in metrics and limits; unset: Pool, if that is known; "": all jobs are
    labelled `unknown`"""

    rules = (
        Rule(
            cel="!self.matchKeys.exists(key, key in self.wildcardKeys)",
            message="has a key that is in matchKeys, too: it constrains, or it does not; keep one of the two",
            check=lambda keys: not set(keys.match_keys) & set(keys.wildcard_keys),
            field="wildcardKeys",
        ),
        Rule(
            cel="!has(self.uniqueKeys) || "
            "self.uniqueKeys.all(key, key in self.matchKeys || key in self.wildcardKeys)",
            message="has a key that is not known; add it to matchKeys or wildcardKeys",
            check=lambda keys: set(keys.unique_keys or ()) <= keys.known_keys,
            field="uniqueKeys",
        ),
        Rule(
            cel="!has(self.labelKey) || self.labelKey == '' || "
            "self.labelKey in self.matchKeys || self.labelKey in self.wildcardKeys",
            message='is not a known key; add it to matchKeys or wildcardKeys, or use "" for no labels',
            check=lambda keys: not keys.label_key or keys.label_key in keys.known_keys,
            field="labelKey",
        ),
    )

    @property
    def known_keys(self) -> frozenset[str]:
        """Keys that jobs may have."""
        return frozenset((*self.match_keys, *self.wildcard_keys))

    @property
    def effective_unique_keys(self) -> frozenset[str]:
        """`unique_keys`, or what it is by default."""
        if self.unique_keys is not None:
            return frozenset(self.unique_keys)
        return self.known_keys & frozenset(USUAL_KEYS)

    @property
    def effective_label_key(self) -> str | None:
        """`label_key`, or what it is by default; None for no labels."""
        if self.label_key is not None:
            return self.label_key or None
        return "Pool" if "Pool" in self.known_keys else None


class Property(ApiModel):
    """One platform property."""

    key: Annotated[PropertyKey, Config("key")]
    """its name, for example OSFamily"""
    value: Annotated[str, Text(1024), Config("value")]
    """its value, for example linux"""


class PropertyLabel(ApiModel):
    """A class of jobs, and all that a bot must offer to run them."""

    label: Annotated[str, Text(LABEL_CHARACTERS, 1), Config("label")]
    """shown in metrics and used in limits"""
    properties: Annotated[tuple[Property, ...], Items(64), Config("properties")] = ()
    """a job of the label may name any of them, and its bot must offer all"""


class StaticPropertySet(ApiModel):
    """An ordered list of labels; a job belongs to the first one that has all its properties."""

    labels: Annotated[tuple[PropertyLabel, ...], Items(256, 1), Config("labels")]
    """in the order in which they are tried"""
    wildcard_keys: Annotated[Keys, Items(64, 0, "set"), Config("wildcard_property_keys")] = ()
    """keys that are accepted in jobs and do not count"""

    rules = (unique("labels", "label", "two have the same label; name one of them otherwise"),)


class PropertySetSpec(ApiModel):
    """Which platform properties there are: exactly one of these."""

    dynamic: Annotated[DynamicPropertySet | None, Config("property_set"), Effect.RELOAD] = None
    """jobs and bots combine known keys freely; `{}` for the usual keys"""
    static: Annotated[StaticPropertySet | None, Config("property_set"), Effect.RELOAD] = None
    """jobs and bots fit one of the labels"""

    rules = (exactly_one_of("dynamic", "static"),)


@dataclass(frozen=True, slots=True)
class PropertySet(Resource[PropertySetSpec, PropertySetStatus]):
    """Which platform properties jobs and bots of the Schedulers that refer to it may have."""

    names = Names("PropertySet", "propertysets", "bgps")
    description = (
        "A PropertySet says which platform properties jobs and bots may have, and what they mean for "
        "matching. Schedulers of its namespace refer to it; an edit reaches their replicas without a restart."
    )
    spec_model = PropertySetSpec
    status_model = PropertySetStatus
    columns = (
        Column("Kind", ".status.kind", "Dynamic or Static"),
        Column("Used by", ".status.usedBy", "number of Schedulers that use it", "integer"),
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "whether it can be used"),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', "what to do next", wide=True),
        Column("Age", ".metadata.creationTimestamp", "time since it was made", "date"),
    )
    name_rule = Rule(
        cel="self.metadata.name.size() <= 63",
        message="must have 63 characters or less; choose a shorter name",
        field="metadata.name",
        check=lambda name: len(name) <= 63,
    )
