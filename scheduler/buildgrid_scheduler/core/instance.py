"""The ambient instance: which tenant the running code acts for."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from buildgrid_scheduler.core.errors import InvalidArgument

_current: ContextVar[str | None] = ContextVar("buildgrid_instance", default=None)


@contextmanager
def instance_context(name: str) -> Iterator[None]:
    """Act for the instance `name` (may be empty, may hold slashes) inside the block."""
    token = _current.set(name)
    try:
        yield
    finally:
        _current.reset(token)


def current_instance() -> str:
    """The instance of the innermost `instance_context`. Raises InvalidArgument outside of one."""
    name = _current.get()
    if name is None:
        raise InvalidArgument("no instance is set; call this inside `with instance_context(NAME):`")
    return name


def qualified(instance: str, name: str) -> str:
    """The name on the wire: `INSTANCE/NAME`, or just `NAME` in the empty instance."""
    return f"{instance}/{name}" if instance else name


def split_qualified(wire_name: str) -> tuple[str, str]:
    """The inverse of `qualified`: (instance, name). The name is what follows the last slash.

    Raises InvalidArgument for a name with a NUL, which no database could even be asked for.
    """
    if "\0" in wire_name:
        raise InvalidArgument(f"name {wire_name[:200]!r} has a NUL; send names as the server tells them")
    instance, _, name = wire_name.rpartition("/")
    return instance, name
