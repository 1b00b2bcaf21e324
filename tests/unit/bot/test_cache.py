"""The cache of inputs: bounded, shared, and never wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from buildgrid_bot.cache import FileCache
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest

LARGE = b"l" * 2000


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[FileCache]:
    cache = FileCache(tmp_path / "cache", 10_000, link_from=1000)
    yield cache
    cache.close()


def add(cache: FileCache, data: bytes, executable: bool = False) -> Digest:
    digest = digest_of(data)
    cache.add_bytes(digest, executable, data)
    return digest


def test_small_files_are_copies_and_large_ones_links(cache: FileCache, tmp_path: Path) -> None:
    small, large = add(cache, b"s"), add(cache, LARGE)
    assert cache.place(small, False, tmp_path / "s") is None
    assert cache.place(large, False, tmp_path / "l") is not None
    assert (tmp_path / "s").stat().st_nlink == 1
    assert (tmp_path / "l").stat().st_nlink == 2
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "s", tmp_path / "l")} == {0o444}


@pytest.mark.parametrize("data", [b"s", LARGE])
def test_one_blob_serves_executable_and_not(cache: FileCache, tmp_path: Path, data: bytes) -> None:
    digest = add(cache, data)
    cache.place(digest, True, tmp_path / "x")
    cache.place(digest, False, tmp_path / "n")
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o555
    assert (tmp_path / "n").stat().st_mode & 0o777 == 0o444
    assert (tmp_path / "x").read_bytes() == data


def test_writable_files_are_copies_of_what_is_right(cache: FileCache, tmp_path: Path) -> None:
    small, large = add(cache, b"s"), add(cache, LARGE)
    assert cache.place(small, False, tmp_path / "s", writable=True) is None
    assert cache.place(large, True, tmp_path / "l", writable=True) is None
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in "sl"] == [0o644, 0o755]
    (tmp_path / "l").write_bytes(b"changed")
    placement = cache.place(large, False, tmp_path / "linked")
    assert placement is not None and (tmp_path / "linked").read_bytes() == LARGE

    (tmp_path / "linked").chmod(0o644)
    (tmp_path / "linked").write_bytes(b"x" * len(LARGE))
    with pytest.raises(KeyError):
        cache.place(large, False, tmp_path / "copy", writable=True)
    assert not (tmp_path / "copy").exists()


def test_a_linked_file_that_was_written_leaves_the_cache(cache: FileCache, tmp_path: Path) -> None:
    digest = add(cache, LARGE)
    with cache.pinned([digest]):
        placement = cache.place(digest, False, tmp_path / "l")
        assert placement is not None
        (tmp_path / "l").chmod(0o644)
        (tmp_path / "l").write_bytes(b"x" * len(LARGE))
        (tmp_path / "l").chmod(0o444)
        assert cache.release([placement]) == [], "nobody else was disturbed"
    assert not cache.has(digest)


def test_an_action_that_shared_a_written_file_hears_of_it(cache: FileCache, tmp_path: Path) -> None:
    digest = add(cache, LARGE)
    with cache.pinned([digest]), cache.pinned([digest]):
        rude, innocent = (cache.place(digest, False, tmp_path / name) for name in ("rude", "innocent"))
        assert rude is not None and innocent is not None
        (tmp_path / "rude").chmod(0o644)
        (tmp_path / "rude").write_bytes(b"x")
        assert cache.release([rude])
        add(cache, LARGE)  # fetched anew meanwhile
        assert cache.release([innocent])
    assert cache.has(digest)


def test_a_link_that_the_action_removed_is_no_harm(cache: FileCache, tmp_path: Path) -> None:
    digest = add(cache, LARGE)
    placement = cache.place(digest, False, tmp_path / "l")
    assert placement is not None
    (tmp_path / "l").unlink()
    assert cache.release([placement]) == []
    assert cache.has(digest)


def test_the_least_recently_used_goes_first_and_pinned_files_stay(cache: FileCache) -> None:
    first, second = (add(cache, bytes([n]) * 4000) for n in range(2))
    with cache.pinned([first]):
        third = add(cache, b"3" * 4000)
        assert (cache.has(first), cache.has(second), cache.has(third)) == (True, False, True)
    assert cache.size_bytes <= 10_000


def test_more_than_the_bound_is_kept_only_while_an_action_needs_it(cache: FileCache) -> None:
    digests = [digest_of(bytes([n]) * 4000) for n in range(5)]
    with cache.pinned(digests):
        for n in range(5):
            add(cache, bytes([n]) * 4000)
        assert cache.size_bytes == 20_000
    assert cache.size_bytes <= 10_000


def test_a_restart_keeps_what_is_whole(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache", 10_000, link_from=1000)
    kept, cut = add(cache, LARGE), add(cache, b"cut")
    forged = add(cache, b"f" * 1500)
    cache.partial_path().write_bytes(b"half")
    cache.close()
    for digest, data in ((cut, b"c"), (forged, b"g" * 1500)):
        (path,) = (tmp_path / "cache").glob(f"files/*/{digest.hash}-*")
        path.chmod(0o644)
        path.write_bytes(data)
        path.chmod(0o444)

    again = FileCache(tmp_path / "cache", 10_000, link_from=1000)

    assert again.has(kept) and not again.has(cut)
    assert again.place(kept, False, tmp_path / "kept") is not None
    with pytest.raises(KeyError):
        again.place(forged, False, tmp_path / "forged")
    assert not list((tmp_path / "cache" / "files").glob("partial-*"))
    again.close()


def test_a_second_bot_is_kept_out(cache: FileCache, tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError):
        FileCache(tmp_path / "cache", 1)


def test_a_file_deleted_by_hand_is_simply_not_there(cache: FileCache, tmp_path: Path) -> None:
    for data in (b"s", LARGE):
        digest = add(cache, data)
        for path in (tmp_path / "cache").glob(f"files/*/{digest.hash}-*"):
            path.unlink()
        with pytest.raises(KeyError):
            cache.place(digest, False, tmp_path / "target")
        assert not cache.has(digest)
