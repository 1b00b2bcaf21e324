"""A scheduler for remote build execution: Remote Execution API in, Remote Workers API out.

Names are imported when they are first used (PEP 562), so that a command that needs one part of the package
does not wait for all of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildgrid_scheduler.assets.client import AssetClient
    from buildgrid_scheduler.core.bot_status import BotStatus
    from buildgrid_scheduler.core.errors import (
        Cancelled,
        DataLoss,
        DeadlineExceeded,
        FailedPrecondition,
        InvalidArgument,
        MissingBlobs,
        NotFound,
        OutOfRange,
        PermissionDenied,
        ResourceExhausted,
        SchedulerError,
        Unauthenticated,
        Unavailable,
        Unimplemented,
    )
    from buildgrid_scheduler.core.instance import instance_context
    from buildgrid_scheduler.core.metering import MeteringThrottleAction
    from buildgrid_scheduler.core.operation_filter import OperationFilter
    from buildgrid_scheduler.core.requirements import requirement_hash
    from buildgrid_scheduler.engine.job_metrics import SchedulerMetrics
    from buildgrid_scheduler.properties.dynamic import DynamicPropertySet
    from buildgrid_scheduler.properties.property_set import PropertySet
    from buildgrid_scheduler.properties.static import PropertyLabel, StaticPropertySet
    from buildgrid_scheduler.scheduler import Scheduler
    from buildgrid_scheduler.storage.abc import StorageABC
    from buildgrid_scheduler.storage.action_cache_abc import ActionCacheABC
    from buildgrid_scheduler.store.provider import SqlProvider
    from buildgrid_scheduler.store.schema import BotEntry, ClientIdentityEntry, RequestMetadataEntry
    from buildgrid_scheduler.timers.options import AgedJobHandlerOptions

# Sorted by home; a test holds that it says what the imports above say.
_HOMES = {
    "assets.client": ("AssetClient",),
    "core.bot_status": ("BotStatus",),
    "core.errors": (
        "Cancelled",
        "DataLoss",
        "DeadlineExceeded",
        "FailedPrecondition",
        "InvalidArgument",
        "MissingBlobs",
        "NotFound",
        "OutOfRange",
        "PermissionDenied",
        "ResourceExhausted",
        "SchedulerError",
        "Unauthenticated",
        "Unavailable",
        "Unimplemented",
    ),
    "core.instance": ("instance_context",),
    "core.metering": ("MeteringThrottleAction",),
    "core.operation_filter": ("OperationFilter",),
    "core.requirements": ("requirement_hash",),
    "engine.job_metrics": ("SchedulerMetrics",),
    "properties.dynamic": ("DynamicPropertySet",),
    "properties.property_set": ("PropertySet",),
    "properties.static": ("PropertyLabel", "StaticPropertySet"),
    "scheduler": ("Scheduler",),
    "storage.abc": ("StorageABC",),
    "storage.action_cache_abc": ("ActionCacheABC",),
    "store.provider": ("SqlProvider",),
    "store.schema": ("BotEntry", "ClientIdentityEntry", "RequestMetadataEntry"),
    "timers.options": ("AgedJobHandlerOptions",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ActionCacheABC",
    "AgedJobHandlerOptions",
    "AssetClient",
    "BotEntry",
    "BotStatus",
    "Cancelled",
    "ClientIdentityEntry",
    "DataLoss",
    "DeadlineExceeded",
    "DynamicPropertySet",
    "FailedPrecondition",
    "InvalidArgument",
    "MeteringThrottleAction",
    "MissingBlobs",
    "NotFound",
    "OperationFilter",
    "OutOfRange",
    "PermissionDenied",
    "PropertyLabel",
    "PropertySet",
    "RequestMetadataEntry",
    "ResourceExhausted",
    "Scheduler",
    "SchedulerError",
    "SchedulerMetrics",
    "SqlProvider",
    "StaticPropertySet",
    "StorageABC",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "instance_context",
    "requirement_hash",
]


if not TYPE_CHECKING:  # which would take any name for one of ours

    def __getattr__(name: str) -> Any:
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
