"""The dynamic property set: any combination of known keys."""

from collections import defaultdict
from itertools import combinations

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Platform
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import BotSession

from buildgrid_scheduler.core.errors import FailedPrecondition, InvalidArgument
from buildgrid_scheduler.core.requirements import Offer
from buildgrid_scheduler.properties.property_set import MAX_COMBINATIONS, UNKNOWN_LABEL, device_pairs

MAX_LABEL_CHARACTERS = 500


class DynamicPropertySet:
    """Match keys constrain where a job may run; wildcard keys are accepted and do not.

    A key that is neither is refused. A unique key may have one value only. The label of a job is the
    first of the sorted values of `label_key`.
    """

    def __init__(
        self,
        *,
        unique_property_keys: set[str],
        match_property_keys: set[str],
        wildcard_property_keys: set[str],
        label_key: str | None = None,
    ) -> None:
        """Raises ValueError when a unique key or the label key is neither a match nor a wildcard key."""
        self.known_keys = match_property_keys | wildcard_property_keys
        if strange := unique_property_keys - self.known_keys:
            raise ValueError(
                f"unique_property_keys: {', '.join(sorted(strange))}: must also be match or wildcard keys"
            )
        if label_key is not None and label_key not in self.known_keys:
            raise ValueError(f"label_key: {label_key}: must also be a match or wildcard key")
        self.unique_property_keys = frozenset(unique_property_keys)
        self.match_property_keys = frozenset(match_property_keys)
        self.wildcard_property_keys = frozenset(wildcard_property_keys)
        self.label_key = label_key

    def execution_properties(self, platform: Platform) -> tuple[str, dict[str, list[str]]]:
        """See `PropertySet`."""
        values: dict[str, set[str]] = defaultdict(set)
        for prop in platform.properties:
            if prop.name not in self.known_keys:
                raise FailedPrecondition(
                    f"platform property {prop.name!r} is not known here; "
                    f"known are {', '.join(sorted(self.known_keys)) or 'none'}"
                )
            if "\0" in prop.value:
                raise InvalidArgument(f"platform property {prop.name!r} has a NUL; remove it")
            values[prop.name].add(prop.value)
        for key in sorted(self.unique_property_keys):
            if len(values.get(key, ())) > 1:
                raise FailedPrecondition(
                    f"platform property {key!r} has several values ({', '.join(sorted(values[key]))}); "
                    "it may have one"
                )
        label = UNKNOWN_LABEL
        if self.label_key is not None and values.get(self.label_key):
            label = min(values[self.label_key])
            if len(label) > MAX_LABEL_CHARACTERS:
                raise InvalidArgument(
                    f"platform property {self.label_key!r} has {len(label)} characters; as it is the job's "
                    f"label, it may have {MAX_LABEL_CHARACTERS}"
                )
        return label, {k: sorted(v) for k, v in sorted(values.items()) if k in self.match_property_keys}

    def offer(self, bot_session: BotSession) -> Offer:
        """The pairs that matching looks at."""
        return frozenset(pair for pair in device_pairs(bot_session) if pair[0] in self.match_property_keys)

    def worker_properties(self, bot_session: BotSession) -> list[dict[str, list[str]]]:
        """See `PropertySet`. The power set of the bot's match pairs; the services do not call this."""
        offered = sorted(self.offer(bot_session))
        if 2 ** len(offered) > MAX_COMBINATIONS:
            raise FailedPrecondition(
                f"the bot has {len(offered)} match properties: more than {MAX_COMBINATIONS} combinations"
            )
        combos: list[dict[str, list[str]]] = []
        for size in range(len(offered) + 1):
            for combination in combinations(offered, size):
                requirement: dict[str, list[str]] = {}
                for key, value in combination:
                    requirement.setdefault(key, []).append(value)
                combos.append(requirement)
        return combos
