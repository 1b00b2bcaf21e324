"""How blobs are spread over calls, and which failed calls are repeated."""

import grpc
import pytest
from buildgrid_bot.errors import InvalidAction, status_of
from buildgrid_client.batching import BATCH_BYTES, chunked, plan_batches
from buildgrid_client.channel import parse_endpoint
from buildgrid_client.errors import BlobsMissing, CasRefused, CasUnavailable
from buildgrid_client.retries import backoff, retry_delay
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(database=None)
@given(st.lists(st.integers(0, 2 * BATCH_BYTES)))
def test_every_blob_is_planned_once_and_no_batch_is_too_large(sizes: list[int]) -> None:
    batches, large = plan_batches(Digest(hash=str(n), size_bytes=size) for n, size in enumerate(sizes))
    planned = [digest for batch in batches for digest in batch] + large
    assert sorted(int(digest.hash) for digest in planned) == list(range(len(sizes)))
    assert all(sum(digest.size_bytes for digest in batch) < 4 << 20 for batch in batches)
    assert all(batches)


def test_many_empty_blobs_do_not_share_one_message_without_bound() -> None:
    batches, _ = plan_batches([Digest()] * 100_000)
    assert len(batches) > 1


def test_chunks_hold_everything_in_order() -> None:
    digests = [Digest(size_bytes=n) for n in range(7)]
    assert [d.size_bytes for part in chunked(digests, 3) for d in part] == list(range(7))
    assert [len(part) for part in chunked(digests, 3)] == [3, 3, 1]


def test_outages_are_waited_out_up_to_the_tolerance() -> None:
    unavailable = grpc.StatusCode.UNAVAILABLE
    assert retry_delay(unavailable, 50, 299, 300) is not None
    assert retry_delay(unavailable, 50, 300, 300) is None


def test_a_doubtful_failure_gets_few_tries_and_a_clear_one_none() -> None:
    assert retry_delay(grpc.StatusCode.INTERNAL, 1, 0, 300) is not None
    assert retry_delay(grpc.StatusCode.INTERNAL, 3, 0, 300) is None
    assert retry_delay(grpc.StatusCode.PERMISSION_DENIED, 1, 0, 300) is None


def test_backoff_doubles_up_to_a_bound_and_keeps_half_of_it() -> None:
    assert [backoff(n, rand=lambda: 1.0) for n in (1, 2, 3, 1000)] == [0.1, 0.2, 0.4, 5.0]
    assert backoff(1000, rand=lambda: 0.0) == 2.5


@pytest.mark.parametrize(
    ("endpoint", "target", "tls"),
    [
        ("grpc://host:50051", "host:50051", False),
        ("grpcs://scheduler.example.org:443/", "scheduler.example.org:443", True),
        ("grpc://[::1]:1", "[::1]:1", False),
    ],
)
def test_endpoints(endpoint: str, target: str, tls: bool) -> None:
    assert parse_endpoint(endpoint) == (target, tls)


@pytest.mark.parametrize(
    "endpoint", ["", "host:1", "http://host:1", "grpc://host", "grpc://host:0", "grpc://a b:1"]
)
def test_bad_endpoints_are_refused_with_an_example(endpoint: str) -> None:
    with pytest.raises(ValueError, match="for example grpc://"):
        parse_endpoint(endpoint)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BlobsMissing(["a/1"]), 9),
        (CasUnavailable("away"), 14),
        (CasRefused("no", grpc.StatusCode.PERMISSION_DENIED), 13),
        (InvalidAction("bad"), 3),
        (OSError(28, "No space left on device"), 14),
        (RuntimeError("bug"), 13),
    ],
)
def test_each_failure_has_its_status(error: Exception, code: int) -> None:
    status = status_of(error)
    assert status.code == code
    assert status.message
