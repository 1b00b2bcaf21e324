"""How the requirements of jobs and the properties of bots meet, for any property set.

Everything downstream compares sets of pairs: a bot may take a job when the job's pairs are a subset of its
own. For the built-in sets those are the (key, value) pairs themselves. Any other property set says what a
bot may take by listing requirements: there, the one pair of a job is its requirement hash.
"""

from collections.abc import Mapping, Sequence

from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import BotSession

from buildgrid_scheduler.core.requirements import Offer, pairs, requirement_hash
from buildgrid_scheduler.properties.dynamic import DynamicPropertySet
from buildgrid_scheduler.properties.property_set import PropertySet
from buildgrid_scheduler.properties.static import StaticPropertySet

_BUILT_IN = (DynamicPropertySet, StaticPropertySet)
_HASH_KEY = "requirement-hash"


class Matching:
    """The matching of one property set."""

    def __init__(self, property_set: PropertySet) -> None:
        self.property_set = property_set

    def offer(self, bot_session: BotSession) -> Offer:
        """What a bot offers. Raises FailedPrecondition for a bot that the property set refuses."""
        if isinstance(self.property_set, _BUILT_IN):
            return self.property_set.offer(bot_session)
        return frozenset(
            (_HASH_KEY, requirement_hash(r)) for r in self.property_set.worker_properties(bot_session)
        )

    def requires(self, requirements: Mapping[str, Sequence[str]]) -> Offer:
        """What a job with these match properties requires of a bot's offer."""
        if isinstance(self.property_set, _BUILT_IN):
            return pairs(requirements)
        return frozenset({(_HASH_KEY, requirement_hash(requirements))})
