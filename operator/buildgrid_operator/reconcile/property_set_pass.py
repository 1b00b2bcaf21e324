"""The pass of a PropertySet: whether it can be used, and who uses it. It makes no other object."""

from buildgrid_operator.api import InvalidSpec, PropertySet
from buildgrid_operator.api.resource import Metadata
from buildgrid_operator.api.status import PropertySetStatus
from buildgrid_operator.cluster.kinds import Manifest, ObjectRef
from buildgrid_operator.reconcile.cache import Cache
from buildgrid_operator.reconcile.reading import status_of
from buildgrid_operator.reconcile.status_writer import StatusWriter, Told
from buildgrid_operator.reconcile.work_queue import DONE, GONE, Outcome
from buildgrid_operator.status.conditions import PROPERTY_SET_CONDITIONS
from buildgrid_operator.status.property_set_conditions import property_set_verdicts
from buildgrid_operator.status.writes import PROPERTY_SET_FIGURES

_LISTED = 256
"""names in status.schedulers"""


class PropertySetPass:
    """Synchronous; called from threads."""

    def __init__(self, cache: Cache, writer: StatusWriter) -> None:
        self._cache = cache
        self._writer = writer
        self._uids: dict[ObjectRef, str] = {}

    def run(self, ref: ObjectRef) -> Outcome:
        """One pass. Raises ClusterError."""
        obj = self._cache.get(ref)
        uid = "" if obj is None else str(obj["metadata"]["uid"])
        known = self._uids.get(ref)
        if known is not None and known != uid:
            self._writer.forget(self._uids.pop(ref))
        if obj is None:
            return GONE
        self._uids[ref] = uid
        before = status_of(obj, PropertySetStatus)
        users = [user.name for user in self._cache.users(ref)]
        problems, kind = _look_at(obj)
        after = before.model_copy(
            update={
                "kind": kind if kind is not None else before.kind,
                "schedulers": tuple(users[:_LISTED]),
                "used_by": len(users),
            }
        )
        told = Told(property_set_verdicts(problems, users), PROPERTY_SET_CONDITIONS, PROPERTY_SET_FIGURES)
        generation = Metadata.model_validate(obj["metadata"]).generation
        wait = self._writer.write(obj, before, after, told, generation)
        return DONE if wait is None else Outcome(again_after=wait)


def _look_at(obj: Manifest) -> tuple[list[str], str | None]:
    try:
        spec = PropertySet.parse(obj).spec
    except InvalidSpec as error:
        return [str(problem) for problem in error.problems], None
    return [], "Static" if spec.static is not None else "Dynamic"
