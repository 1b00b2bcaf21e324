"""Storage in an object store: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage."""

from buildgrid_scheduler.storage.object_store.location import ObjectStoreLocation
from buildgrid_scheduler.storage.object_store.storage import ObjectStorage

__all__ = ["ObjectStorage", "ObjectStoreLocation"]
