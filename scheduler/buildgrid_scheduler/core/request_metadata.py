"""The RequestMetadata of a client (REAPI), as a row of its own table."""

import hashlib

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import RequestMetadata

METADATA_COLUMNS = (
    "hash",
    "tool_name",
    "tool_version",
    "action_id",
    "invocation_id",
    "correlated_invocations_id",
    "action_mnemonic",
    "target_id",
    "configuration_id",
)
"""of `request_metadata`, in the order of `metadata_row`"""

MAX_CHARACTERS = 500
"""of a value that is kept: PostgreSQL refuses what takes more than 2,704 bytes in an index"""


def metadata_row(metadata: RequestMetadata) -> tuple[str, ...]:
    """The values of METADATA_COLUMNS, each cut at MAX_CHARACTERS."""
    raw = (
        metadata.tool_details.tool_name,
        metadata.tool_details.tool_version,
        metadata.action_id,
        metadata.tool_invocation_id,
        metadata.correlated_invocations_id,
        metadata.action_mnemonic,
        metadata.target_id,
        metadata.configuration_id,
    )
    # PostgreSQL's text holds no NUL.
    fields = tuple(field.replace("\0", "")[:MAX_CHARACTERS] for field in raw)
    digest = hashlib.sha1("\0".join(fields).encode(), usedforsecurity=False)
    return digest.hexdigest(), *fields


def metadata_message(row: tuple[str, ...]) -> RequestMetadata:
    """The inverse of `metadata_row`."""
    _, tool_name, tool_version, action_id, invocation, correlated, mnemonic, target, configuration = row
    metadata = RequestMetadata(
        action_id=action_id,
        tool_invocation_id=invocation,
        correlated_invocations_id=correlated,
        action_mnemonic=mnemonic,
        target_id=target,
        configuration_id=configuration,
    )
    if tool_name or tool_version:
        metadata.tool_details.tool_name = tool_name
        metadata.tool_details.tool_version = tool_version
    return metadata
