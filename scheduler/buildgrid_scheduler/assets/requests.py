"""What is pushed to keep an action, or its result, in the CAS. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from buildgrid_client.digests import digest_key, digest_of, digest_problem
from buildgrid_protos.build.bazel.remote.asset.v1.remote_asset_pb2 import PushBlobRequest, Qualifier
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Action,
    ActionResult,
    Digest,
    DigestFunction,
    Tree,
)

from buildgrid_scheduler.core.clock import to_timestamp

RESOURCE_TYPE = Qualifier(name="resource_type", value="application/x-protobuf")
MOST_REFERENCES = 20_000
"""Of one asset: each takes about 75 bytes, and gRPC servers take messages of 4 MiB unless told otherwise."""


@dataclass(slots=True)
class References:
    """Digests without repetitions, in order, of well-formed ones only: a result is as a bot sent it."""

    found: dict[str, Digest] = field(default_factory=dict)
    left_out: int = 0
    """beyond MOST_REFERENCES"""

    def add(self, digest: Digest) -> None:
        """Refer to this blob, too. An unset digest is passed over."""
        key = digest_key(digest)
        if key in self.found or digest_problem(digest):
            return
        if len(self.found) >= MOST_REFERENCES:
            self.left_out += 1
            return
        self.found[key] = digest


def uri_of(digest: Digest) -> str:
    """The name of a blob by its hash (RFC 6920, section 7)."""
    return f"nih:sha-256;{digest.hash}"


def action_request(instance: str, digest: Digest, action: Action, expire_at: datetime) -> PushBlobRequest:
    """Keep an action with its command and its whole input tree."""
    return _request(
        instance, digest, expire_at, blobs=[action.command_digest], directories=[action.input_root_digest]
    )


def tree_digests(result: ActionResult) -> list[Digest]:
    """The Trees of a result, whose files are to be kept with it."""
    return [d.tree_digest for d in result.output_directories if not digest_problem(d.tree_digest)]


def result_request(
    instance: str, serialized: bytes, result: ActionResult, trees: Iterable[Tree], expire_at: datetime
) -> tuple[PushBlobRequest, int]:
    """Keep an ActionResult with all that it promises: files, Trees with their files, stdout and stderr.

    `trees` are the contents of `tree_digests`, of those that were found. Returns the request, and how many
    references had to be left out of it (MOST_REFERENCES).
    """
    blobs, directories = References(), References()
    for file in result.output_files:
        blobs.add(file.digest)
    for digest in (result.stdout_digest, result.stderr_digest, *tree_digests(result)):
        blobs.add(digest)
    for output in result.output_directories:
        directories.add(output.root_directory_digest)
    for tree in trees:
        for directory in (tree.root, *tree.children):
            for node in directory.files:
                blobs.add(node.digest)
    request = _request(
        instance,
        digest_of(serialized),
        expire_at,
        blobs=blobs.found.values(),
        directories=directories.found.values(),
    )
    return request, blobs.left_out + directories.left_out


def _request(
    instance: str,
    digest: Digest,
    expire_at: datetime,
    *,
    blobs: Iterable[Digest],
    directories: Iterable[Digest],
) -> PushBlobRequest:
    return PushBlobRequest(
        instance_name=instance,
        uris=[uri_of(digest)],
        qualifiers=[RESOURCE_TYPE],
        expire_at=to_timestamp(expire_at),
        blob_digest=digest,
        references_blobs=blobs,
        references_directories=directories,
        digest_function=DigestFunction.SHA256,
    )
