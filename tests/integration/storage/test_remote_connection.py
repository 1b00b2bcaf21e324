"""How a remote CAS is reached: credentials that change, batches, ZSTD, instances."""

import os
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from buildgrid_client.credentials import TlsFiles
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    CacheCapabilities,
    Compressor,
    DigestFunction,
    ServerCapabilities,
)
from buildgrid_scheduler.core.errors import FailedPrecondition, Unavailable
from buildgrid_scheduler.storage.remote import RemoteEndpoint, RemoteStorage

from tests.credentials.certificates import Authority
from tests.integration.storage.fake_bytestream import BreakingByteStream
from tests.integration.storage.remote_server import RemoteServer

BLOB = b"text that is long enough to be worth compressing " * 100
DIGEST = digest_of(BLOB)
SOON = timedelta(seconds=0.3)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def started(remote: RemoteEndpoint, **settings: object) -> "closing[_Started]":
    return closing(_Started(RemoteStorage(remote, **settings)))  # type: ignore[arg-type]


class _Started:
    def __init__(self, storage: RemoteStorage) -> None:
        self.storage = storage
        storage.start()

    def close(self) -> None:
        self.storage.stop()


def tls_server(authority: Authority) -> RemoteServer:
    """Shows a certificate of the authority, and believes its clients."""
    pair = authority.server()
    credentials = grpc.ssl_server_credentials(
        [(pair.key, pair.certificate)], authority.pem, require_client_auth=True
    )
    remote = RemoteServer(credentials=credentials)
    remote.start()
    return remote


def write_files(folder: Path, trusted: Authority, issuer: Authority) -> TlsFiles:
    """What a client shows and believes."""
    ca = folder / "ca.pem"
    ca.write_bytes(trusted.pem)
    return TlsFiles(ca, *issuer.client("scheduler").write(folder))


def test_both_sides_may_show_certificates(tmp_path: Path) -> None:
    ca = Authority()
    files = write_files(tmp_path, ca, ca)
    with (
        closing(tls_server(ca)) as server,
        started(RemoteEndpoint(server.endpoint, files)) as opened,
    ):
        assert server.endpoint.startswith("grpcs://")
        assert opened.storage.write_many([(DIGEST, BLOB)]) == [None]
        assert opened.storage.read_one(DIGEST) == BLOB


def test_a_server_that_is_not_believed_is_not_used(tmp_path: Path) -> None:
    ca = Authority()
    files = write_files(tmp_path, Authority(), ca)
    with (
        closing(tls_server(ca)) as server,
        started(RemoteEndpoint(server.endpoint, files), outage_tolerance=SOON) as opened,
        pytest.raises(Unavailable),
    ):
        opened.storage.read_one(DIGEST)


def test_certificates_that_were_replaced_are_used_without_a_restart(tmp_path: Path) -> None:
    old, new = Authority(), Authority()
    files = write_files(tmp_path, old, old)
    clock = Clock()
    with (
        closing(tls_server(new)) as server,
        started(RemoteEndpoint(server.endpoint, files), outage_tolerance=timedelta(0), clock=clock) as opened,
    ):
        with pytest.raises(Unavailable):
            opened.storage.read_one(DIGEST)
        write_files(tmp_path, new, new)
        clock.now += 60
        assert opened.storage.read_one(DIGEST) is None
        files.ca.unlink()  # type: ignore[union-attr]
        clock.now += 60
        assert opened.storage.read_one(DIGEST) is None, "what cannot be read leaves the old ones in force"


def test_each_call_carries_the_token_of_the_moment(remote: RemoteServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    with started(RemoteEndpoint(remote.endpoint, token=token)) as opened:
        assert remote.faults.metadata["authorization"] == "Bearer first", "GetCapabilities, too"
        replacement = tmp_path / "replacement"
        replacement.write_text("second")
        replacement.replace(token)
        opened.storage.has_many([DIGEST])
        assert remote.faults.metadata["authorization"] == "Bearer second"
        token.unlink()
        opened.storage.has_many([DIGEST])
        assert remote.faults.metadata["authorization"] == "Bearer second"


@pytest.mark.parametrize("content", [None, " \n"], ids=["missing", "empty"])
def test_a_token_that_cannot_be_read_is_named_at_the_start(
    remote: RemoteServer, tmp_path: Path, content: str | None
) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content)
    storage = RemoteStorage(RemoteEndpoint(remote.endpoint, token=token))
    with pytest.raises(FailedPrecondition, match=f"credentials cannot be used.*{token}"):
        storage.start()


def test_a_certificate_that_is_not_there_is_named_at_the_start(tmp_path: Path) -> None:
    storage = RemoteStorage(RemoteEndpoint("grpcs://localhost:1", TlsFiles(tmp_path / "ca.pem")))
    with pytest.raises(FailedPrecondition, match=r"credentials cannot be used.*ca\.pem"):
        storage.start()


def test_small_blobs_travel_compressed_both_ways(remote: RemoteServer) -> None:
    noise = os.urandom(1000)
    with started(RemoteEndpoint(remote.endpoint)) as opened:
        assert opened.storage.write_many([(DIGEST, BLOB), (digest_of(noise), noise)]) == [None, None]
        assert opened.storage.read_one(DIGEST) == BLOB
    [update], [read] = remote.cas.updates, remote.cas.reads
    zstd, identity = Compressor.ZSTD, Compressor.IDENTITY
    assert [item.compressor for item in update.requests] == [zstd, identity], "noise does not become smaller"
    assert [item.compressor for item in read.responses] == [zstd]


def test_compression_may_be_off(remote: RemoteServer) -> None:
    with started(RemoteEndpoint(remote.endpoint), compression=False) as opened:
        opened.storage.write_many([(DIGEST, BLOB)])
        assert opened.storage.read_one(DIGEST) == BLOB
    assert remote.cas.updates[0].requests[0].compressor == Compressor.IDENTITY
    assert remote.cas.reads[0].responses[0].compressor == Compressor.IDENTITY


def offering(**fields: object) -> "closing[RemoteServer]":
    cache = CacheCapabilities(digest_functions=[DigestFunction.SHA256], **fields)  # type: ignore[arg-type]
    server = RemoteServer(capabilities=ServerCapabilities(cache_capabilities=cache))
    server.start()
    return closing(server)


def test_batches_are_as_small_as_the_server_wants_them() -> None:
    blobs = [os.urandom(1000) for _ in range(10)]
    with (
        offering(max_batch_total_size_bytes=4000) as server,
        started(RemoteEndpoint(server.endpoint)) as opened,
    ):
        large = os.urandom(5000)
        stored = [(digest_of(blob), blob) for blob in (*blobs, large)]
        assert opened.storage.write_many(stored) == [None] * 11
        assert len(opened.storage.read_many(digest for digest, _ in stored)) == 11
        for update in server.cas.updates:
            assert sum(item.digest.size_bytes for item in update.requests) <= 4000
        assert len(server.cas.updates) == len(server.cas.reads) == 4
        assert server.faults.calls["Write"] == server.faults.calls["Read"] == 1


def test_a_server_that_offers_no_zstd_gets_none() -> None:
    with offering() as server, started(RemoteEndpoint(server.endpoint)) as opened:
        opened.storage.write_many([(DIGEST, BLOB)])
        assert opened.storage.read_one(DIGEST) == BLOB
        assert server.cas.updates[0].requests[0].compressor == Compressor.IDENTITY
        assert server.cas.reads[0].responses[0].compressor == Compressor.IDENTITY


def test_a_server_without_sha256_is_refused() -> None:
    cache = CacheCapabilities(digest_functions=[DigestFunction.BLAKE3])
    with closing(RemoteServer(capabilities=ServerCapabilities(cache_capabilities=cache))) as server:
        server.start()
        with pytest.raises(FailedPrecondition, match="does not offer the digest function SHA256"):
            RemoteStorage(RemoteEndpoint(server.endpoint)).start()


def test_a_server_that_tells_nothing_is_used_plainly(remote: RemoteServer) -> None:
    remote.faults.fail("GetCapabilities", grpc.StatusCode.UNIMPLEMENTED)
    with started(RemoteEndpoint(remote.endpoint)) as opened:
        opened.storage.write_many([(DIGEST, BLOB)])
        assert opened.storage.read_one(DIGEST) == BLOB
    assert remote.cas.updates[0].requests[0].compressor == Compressor.IDENTITY


def test_what_the_server_offers_is_asked_again_now_and_then(remote: RemoteServer) -> None:
    remote.faults.fail("GetCapabilities", grpc.StatusCode.UNIMPLEMENTED)
    clock = Clock()
    with started(RemoteEndpoint(remote.endpoint), clock=clock) as opened:
        clock.now += 3600
        remote.faults.fail("GetCapabilities", grpc.StatusCode.UNAVAILABLE)
        opened.storage.write_many([(DIGEST, BLOB)])
        clock.now += 3600
        opened.storage.write_many([(DIGEST, BLOB)])
    compressors = [update.requests[0].compressor for update in remote.cas.updates]
    assert compressors == [Compressor.IDENTITY, Compressor.ZSTD]


def test_large_blobs_travel_under_the_instances_name() -> None:
    large = os.urandom(5_000_000)
    stream = BreakingByteStream(large)
    with closing(RemoteServer(bytestream=stream)) as server:
        server.start()
        with started(RemoteEndpoint(server.endpoint), instance_name="main/team", compression=False) as opened:
            opened.storage.stream_write(digest_of(large), [large])
            assert opened.storage.read_one(digest_of(large)) == large
    assert next(iter(stream.finished)).startswith("main/team/uploads/")
    assert stream.reads[0].resource_name.startswith("main/team/blobs/")


def test_small_blobs_travel_under_the_instances_name(remote: RemoteServer) -> None:
    with started(RemoteEndpoint(remote.endpoint), instance_name="main/team") as opened:
        assert opened.storage.write_many([(DIGEST, BLOB)]) == [None]
        assert opened.storage.has_many([DIGEST])
        assert opened.storage.read_one(DIGEST) == BLOB
    assert remote.cas.updates[0].instance_name == "main/team"
