"""All that decides which objects there should be. Nothing else does: no clock, no cluster, no file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from buildgrid_operator.api import PropertySetSpec, Scheduler, SchedulerSpec
from buildgrid_operator.api.resource import Metadata
from buildgrid_operator.desired.images import Images
from buildgrid_operator.desired.settings import Settings


@dataclass(frozen=True, slots=True)
class ClusterTokens:
    """What tokens of this cluster's service accounts are checked with."""

    issuer: str
    """the API server's --service-account-issuer, from /.well-known/openid-configuration"""
    jwks: str
    """its public keys, from /openid/v1/jwks, as it answers"""


@dataclass(frozen=True, slots=True)
class Inputs:
    """One Scheduler, and what it refers to."""

    scheduler: Scheduler
    images: Images
    settings: Settings
    property_set: PropertySetSpec | None = None
    """of the PropertySet that spec.propertySetRef names"""
    held_property_set: Mapping[str, Any] | None = None
    """instead of `property_set`: a section of the configuration that stays in force, from
    `config.property_set_in`; empty: the built-in one"""
    tokens: ClusterTokens | None = None
    """needed where auth is on"""
    autoscaled: bool = False
    """whether somebody else, an HPA, sets the number of replicas"""

    @property
    def spec(self) -> SchedulerSpec:
        """The Scheduler's."""
        return self.scheduler.spec

    @property
    def metadata(self) -> Metadata:
        """The Scheduler's."""
        return self.scheduler.metadata
