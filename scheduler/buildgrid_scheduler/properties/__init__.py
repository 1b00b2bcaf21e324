"""Property sets: what the platform properties of actions and bots mean for matching."""

from buildgrid_scheduler.properties.dynamic import DynamicPropertySet
from buildgrid_scheduler.properties.property_set import PropertySet
from buildgrid_scheduler.properties.static import PropertyLabel, StaticPropertySet

__all__ = ["DynamicPropertySet", "PropertyLabel", "PropertySet", "StaticPropertySet"]
