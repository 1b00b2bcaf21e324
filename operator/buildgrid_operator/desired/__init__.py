"""From a spec to everything that should exist. Pure: the same inputs give the same objects."""

from buildgrid_operator.desired.bundle import KINDS, Bundle, build
from buildgrid_operator.desired.images import Images, resolve_images
from buildgrid_operator.desired.inputs import ClusterTokens, Inputs
from buildgrid_operator.desired.settings import Operator, Settings

__all__ = [
    "KINDS",
    "Bundle",
    "ClusterTokens",
    "Images",
    "Inputs",
    "Operator",
    "Settings",
    "build",
    "resolve_images",
]
