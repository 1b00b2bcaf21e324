"""Which instance names this server answers to, and to whom."""

from collections.abc import Iterable

from buildgrid_scheduler.auth.access import Access, OpenAccess
from buildgrid_scheduler.auth.policy import Right
from buildgrid_scheduler.core.errors import InvalidArgument


class Instances:
    """A fixed set of instance names. The empty name is one only when it is listed."""

    def __init__(self, names: Iterable[str], access: Access | None = None) -> None:
        """`access`: who may do what; None: everybody everything."""
        self._names = frozenset(names)
        self.access: Access = access or OpenAccess()

    @property
    def names(self) -> frozenset[str]:
        """All names."""
        return self._names

    def check(self, name: str, right: Right) -> str:
        """The name itself. Raises InvalidArgument when it is not one of this server's.

        Raises Unauthenticated or PermissionDenied first: others' instance names are not told.
        """
        self.access.authorize(right, name)
        if name not in self._names:
            known = ", ".join(repr(known) for known in sorted(self._names)) or "none"
            raise InvalidArgument(f"instance_name {name[:200]!r} is not known here; known instances: {known}")
        return name
