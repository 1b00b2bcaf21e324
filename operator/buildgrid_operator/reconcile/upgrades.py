"""Which Scheduler with upgradePolicy Automatic may take up the operator's version: one after the other."""

import threading
from collections.abc import Iterable

from buildgrid_operator.api import Scheduler
from buildgrid_operator.cluster.kinds import ObjectRef
from buildgrid_operator.desired import Settings
from buildgrid_operator.desired.images import with_registry
from buildgrid_operator.status.workload import Workload


class Upgrades:
    """Whose turn it is. Thread-safe: passes of several Schedulers run at once.

    Only the Scheduler that takes its turn just now is remembered; that an upgrade is under way is seen in the
    cluster, so that it holds after a restart as well.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turn: ObjectRef | None = None

    def may(self, ref: ObjectRef, scheduler: Scheduler, others: Iterable[tuple[ObjectRef, Workload]]) -> bool:
        """Whether this Scheduler may change its image. `others`: those that run the new image already.

        It is no question for one without an image, which is new.
        """
        if scheduler.spec.upgrade_policy != "Automatic" or scheduler.status.image is None:
            return True
        busy = any(not workload.settled for other, workload in others if other != ref)
        with self._lock:
            if busy or self._turn not in (None, ref):
                return False
            self._turn = ref
            return True

    def ended(self, ref: ObjectRef) -> None:
        """All its pods are of the newest image, or it is gone: it is the next one's turn."""
        with self._lock:
            if self._turn == ref:
                self._turn = None


def runs_own_image(scheduler: Scheduler, settings: Settings) -> bool:
    """Whether it has the operator's own image, and follows it."""
    own = with_registry(settings.scheduler_image, settings.image_registry)
    return scheduler.spec.upgrade_policy == "Automatic" and scheduler.status.image == own
