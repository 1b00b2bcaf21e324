"""Which instance names this server answers to."""

from collections.abc import Iterable

from buildgrid_scheduler.core.errors import InvalidArgument


class Instances:
    """A fixed set of instance names. The empty name is one only when it is listed."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)

    @property
    def names(self) -> frozenset[str]:
        """All names."""
        return self._names

    def check(self, name: str) -> str:
        """The name itself; raises InvalidArgument when it is not one of this server's."""
        if name not in self._names:
            known = ", ".join(repr(known) for known in sorted(self._names)) or "none"
            raise InvalidArgument(f"instance_name {name!r} is not known here; known instances: {known}")
        return name
