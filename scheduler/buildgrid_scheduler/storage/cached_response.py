"""Whether an action need not be run: the action cache and the CAS asked together."""

import logging

from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ActionResult,
    Digest,
    ExecuteResponse,
)

from buildgrid_scheduler.core.result_size import fit_into_a_message
from buildgrid_scheduler.storage.abc import StorageABC
from buildgrid_scheduler.storage.action_cache_abc import ActionCacheABC
from buildgrid_scheduler.storage.completeness import missing_outputs

log = logging.getLogger(__name__)


def cached_response(
    cache: ActionCacheABC, storage: StorageABC, instance: str, digest: Digest
) -> bytes | None:
    """A serialized ExecuteResponse, if the cache has a result and the CAS all its outputs.

    A cache that fails is logged: the action is run instead.
    """
    try:
        return response_of(cache.get(instance, digest), storage)
    except Exception as error:  # noqa: BLE001 - whatever ails the cache, the action can be run
        log.warning("the action cache failed, action %s is run instead: %s", digest_key(digest), error)
        return None


def response_of(result: ActionResult | None, storage: StorageABC) -> bytes | None:
    """The response for a result; None if there is none, it is too large, or any of its outputs is missing."""
    if result is None or not fit_into_a_message(result) or missing_outputs(storage, result):
        return None
    return ExecuteResponse(result=result, cached_result=True).SerializeToString()
