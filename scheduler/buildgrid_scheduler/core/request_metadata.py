"""The RequestMetadata of a client (REAPI), as a row of its own table."""

import hashlib

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import RequestMetadata


def metadata_row(metadata: RequestMetadata) -> tuple[str, ...]:
    """(hash, tool name, tool version, action id, invocation, correlated, mnemonic, target, configuration)"""
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
    fields = tuple(field.replace("\0", "") for field in raw)  # PostgreSQL's text holds no NUL
    digest = hashlib.sha1("\0".join(fields).encode(), usedforsecurity=False)
    return digest.hexdigest(), *fields
