"""Who refers to what: from a PropertySet, which need not exist, to the Schedulers that name it."""

from buildgrid_operator.cluster.kinds import ObjectRef


class References:
    """Each referrer refers to one object, or to none. Not thread-safe."""

    def __init__(self) -> None:
        self._targets: dict[ObjectRef, ObjectRef] = {}
        self._users: dict[ObjectRef, set[ObjectRef]] = {}

    def set(self, referrer: ObjectRef, target: ObjectRef | None) -> None:
        """From now on it refers to this one."""
        self.forget(referrer)
        if target is not None:
            self._targets[referrer] = target
            self._users.setdefault(target, set()).add(referrer)

    def forget(self, referrer: ObjectRef) -> None:
        """It refers to nothing any more."""
        target = self._targets.pop(referrer, None)
        if target is not None:
            users = self._users[target]
            users.discard(referrer)
            if not users:
                del self._users[target]

    def target(self, referrer: ObjectRef) -> ObjectRef | None:
        """What it refers to."""
        return self._targets.get(referrer)

    def users(self, target: ObjectRef) -> list[ObjectRef]:
        """Who refers to it, by name."""
        return sorted(self._users.get(target, ()), key=lambda ref: (ref.namespace, ref.name))
