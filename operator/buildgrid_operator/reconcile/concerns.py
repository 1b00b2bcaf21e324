"""Whose pass looks at an object: which keys an event, or a difference between lists, is about."""

from buildgrid_operator.cluster.kinds import (
    BOT_FLEET,
    CONFIG_MAP,
    NODE,
    POD,
    PROPERTY_SET,
    SCHEDULER,
    Manifest,
    ObjectRef,
)
from buildgrid_operator.reconcile.cache import Cache, owner_of
from buildgrid_operator.reconcile.farm_key import FarmKey, scheduler_of, scheduler_of_stray

Key = ObjectRef | FarmKey
"""A Scheduler, a PropertySet, or all BotFleets of a Scheduler."""


def concerned(obj: Manifest, cache: Cache) -> set[Key]:
    """The keys, as the object is and as the cache is."""
    ref = ObjectRef.of(obj)
    if ref.kind == PROPERTY_SET:
        return {ref, *cache.users(ref)}
    if ref.kind == SCHEDULER:
        target = cache.used_by(ref)
        return {ref, *_farm(ref, cache)} if target is None else {ref, target, *_farm(ref, cache)}
    if ref.kind == BOT_FLEET:
        return _farm_of(obj)
    if ref.kind == NODE:
        return set().union(*(_farm_of(fleet) for fleet in cache.all(BOT_FLEET)))
    owner = owner_of(obj)
    if owner is None:
        return set()
    if ref.kind == POD and (left := scheduler_of_stray(obj)) is not None:
        return {FarmKey(left)}
    if owner.kind == BOT_FLEET:
        fleet = cache.get(owner)
        return set() if fleet is None else _farm_of(fleet)
    # Which jobs its bots may take is in the configuration.
    return {owner, *_farm(owner, cache)} if ref.kind == CONFIG_MAP else {owner}


def _farm(scheduler: ObjectRef, cache: Cache) -> set[Key]:
    return {FarmKey(scheduler)} if cache.fleets(scheduler) else set()


def _farm_of(fleet: Manifest) -> set[Key]:
    scheduler = scheduler_of(fleet)
    return set() if scheduler is None else {FarmKey(scheduler)}
