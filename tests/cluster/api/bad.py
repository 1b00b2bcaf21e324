"""What a row of the tables of bad objects is."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from tests.cluster.api.fleets import fleet
from tests.cluster.api.objects import Json, changed, property_set, scheduler

Kind = Literal["Scheduler", "PropertySet", "BotFleet"]
_SMALLEST = {"Scheduler": scheduler, "PropertySet": property_set, "BotFleet": fleet}
AS_IT_IS = object()
"""The value of a field that is only blamed: what is changed is elsewhere."""


@dataclass(frozen=True)
class Bad:
    """A good object with a change at `field`, the field that the answer must name.

    `value` is what stands there, `more` are further changes. `says`: words that the answer must hold on both
    sides; where a type, a range or a list of words is broken, each side has its own.
    """

    name: str
    kind: Kind
    field: str
    value: Any
    says: str = ""
    more: Json = dataclasses.field(default_factory=dict)
    base: Json | None = None

    @property
    def obj(self) -> Json:
        """The whole object."""
        base = self.base or _SMALLEST[self.kind]()
        changes = dict(self.more) if self.value is AS_IT_IS else {self.field: self.value, **self.more}
        return changed(base, changes)


@dataclass(frozen=True)
class BadEdit:
    """A good object that is edited to another good one, which is not allowed."""

    name: str
    before: Json
    after: Json
    field: str
    says: str
