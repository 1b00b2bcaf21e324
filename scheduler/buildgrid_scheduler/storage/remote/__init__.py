"""Storage and action cache on another server that speaks REAPI."""

from buildgrid_scheduler.storage.remote.action_cache import RemoteActionCache
from buildgrid_scheduler.storage.remote.cas import RemoteStorage
from buildgrid_scheduler.storage.remote.connection import RemoteEndpoint

__all__ = ["RemoteActionCache", "RemoteEndpoint", "RemoteStorage"]
