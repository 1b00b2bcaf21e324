"""From the settings to a property set."""

from buildgrid_scheduler.config.property_set import DynamicPropertySetConfig, PropertySetConfig
from buildgrid_scheduler.properties import (
    DynamicPropertySet,
    PropertyLabel,
    PropertySet,
    StaticPropertySet,
)


def build_property_set(config: PropertySetConfig) -> PropertySet:
    """The settings are consistent: see their validators."""
    if isinstance(config, DynamicPropertySetConfig):
        return DynamicPropertySet(
            unique_property_keys=set(config.unique_property_keys),
            match_property_keys=set(config.match_property_keys),
            wildcard_property_keys=set(config.wildcard_property_keys),
            label_key=config.label_key,
        )
    labels = [
        PropertyLabel(label.label, {(entry.key, entry.value) for entry in label.properties})
        for label in config.labels
    ]
    return StaticPropertySet(
        property_labels=labels, wildcard_property_keys=set(config.wildcard_property_keys)
    )
