"""Requirements of jobs, and what bots offer: the matching rule."""

import hashlib
import json
from collections.abc import Mapping, Sequence

Offer = frozenset[tuple[str, str]]
"""All (key, value) pairs that a bot has."""


def requirement_hash(requirements: Mapping[str, Sequence[str]]) -> str:
    """SHA-1 hex of the JSON of `requirements` with sorted keys and sorted values.

    Jobs with the same hash can run on the same bots; it is a key, not a secret.
    """
    canonical = {key: sorted(values) for key, values in requirements.items()}
    text = json.dumps(canonical, sort_keys=True)
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def pairs(requirements: Mapping[str, Sequence[str]]) -> Offer:
    """The (key, value) pairs of `requirements`."""
    return frozenset((key, value) for key, values in requirements.items() for value in values)


def satisfies(offer: Offer, requirements: Offer) -> bool:
    """Whether a bot that offers `offer` may take a job that requires `requirements`: a subset test."""
    return requirements <= offer
