"""Digests: how blobs are named (REAPI, message Digest). SHA-256 throughout."""

import hashlib
import re

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest
from google.protobuf.message import Message

HASH_LENGTH = 64
EMPTY_HASH = hashlib.sha256().hexdigest()
_HASH = re.compile(r"[0-9a-f]{64}")


def digest_of(data: bytes) -> Digest:
    """The digest of a blob."""
    return Digest(hash=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def digest_of_message(message: Message) -> Digest:
    """The digest of a message in its canonical serialization (REAPI: fields in order of their number)."""
    return digest_of(message.SerializeToString(deterministic=True))


def digest_key(digest: Digest) -> str:
    """`HASH/SIZE`, as in resource names."""
    return f"{digest.hash}/{digest.size_bytes}"


def parse_digest(key: str) -> Digest:
    """The inverse of `digest_key`. Raises ValueError for anything else."""
    hash_, _, size = key.partition("/")
    digest = Digest(hash=hash_, size_bytes=int(size) if size.isdecimal() and len(size) < 19 else -1)
    if problem := digest_problem(digest):
        raise ValueError(f"{key!r} is not HASH/SIZE: {problem}")
    return digest


def digest_problem(digest: Digest) -> str | None:
    """What is wrong with a digest that came from outside; None when nothing is."""
    if not _HASH.fullmatch(digest.hash):
        return f"hash {digest.hash[:80]!r} is not 64 lower-case hexadecimal digits (SHA-256)"
    if digest.size_bytes < 0:
        return f"size_bytes is {digest.size_bytes}, must not be negative"
    return None
