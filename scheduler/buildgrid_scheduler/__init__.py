"""A scheduler for remote build execution: Remote Execution API in, Remote Workers API out."""

from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.errors import (
    Cancelled,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    MissingBlobs,
    NotFound,
    ResourceExhausted,
    SchedulerError,
    Unavailable,
)
from buildgrid_scheduler.core.instance import instance_context
from buildgrid_scheduler.core.requirements import requirement_hash
from buildgrid_scheduler.properties import DynamicPropertySet, PropertySet
from buildgrid_scheduler.scheduler import Scheduler
from buildgrid_scheduler.storage.abc import StorageABC
from buildgrid_scheduler.storage.action_cache_abc import ActionCacheABC
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.schema import BotEntry, ClientIdentityEntry, RequestMetadataEntry

__all__ = [
    "ActionCacheABC",
    "BotEntry",
    "BotStatus",
    "Cancelled",
    "ClientIdentityEntry",
    "DataLoss",
    "DynamicPropertySet",
    "FailedPrecondition",
    "InvalidArgument",
    "MissingBlobs",
    "NotFound",
    "PropertySet",
    "RequestMetadataEntry",
    "ResourceExhausted",
    "Scheduler",
    "SchedulerError",
    "SqlProvider",
    "StorageABC",
    "Unavailable",
    "instance_context",
    "requirement_hash",
]
