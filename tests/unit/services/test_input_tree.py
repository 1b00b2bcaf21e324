"""What the walk over an input tree reads, asks for and refuses."""

import pytest
from buildgrid_client.digests import EMPTY_HASH, digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest, Directory, FileNode
from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.services import input_tree
from buildgrid_scheduler.services.input_tree import MAX_NAMED, InputTreeWalk, parse_directory
from buildgrid_scheduler.services.limits import MAX_DIRECTORY_BYTES

from tests.farm.input_trees import bomb, chain, directory, packed, wide

X = digest_of(b"x")


class Store:
    """Answers a walk, and counts what it was asked."""

    def __init__(self, *blobs: bytes) -> None:
        self.blobs = {digest_key(digest_of(blob)): blob for blob in blobs}
        self.read: list[str] = []
        self.asked: list[str] = []
        self.rounds = 0

    def serve(self, walk: InputTreeWalk) -> InputTreeWalk:
        while not walk.done:
            self.rounds += 1
            for digest in walk.unread():
                self.read.append(digest_key(digest))
                walk.add(digest, self.blobs.get(digest_key(digest)))
            files = walk.unasked()
            self.asked += map(digest_key, files)
            walk.note(files, self.blobs.keys() & set(map(digest_key, files)))
        return walk


def walked(store: Store, root: bytes) -> InputTreeWalk:
    return store.serve(InputTreeWalk(digest_of(root)))


def test_a_whole_tree_misses_nothing() -> None:
    leaf = packed(
        directory({"x": X}, symlinks={"up": "../../../etc", "absolute": "/usr/lib", "self": "self"})
    )
    root = packed(directory({"y": digest_of(b"y")}, {"sub": digest_of(leaf)}))
    store = Store(leaf, root, b"x", b"y")
    walk = walked(store, root)
    assert (walk.missing, walk.missing_count) == ([], 0)
    assert (len(store.read), len(store.asked)) == (2, 2)
    assert walk.entries == 6


def test_all_that_is_missing_is_named_at_any_depth() -> None:
    gone = packed(directory({"z": digest_of(b"z")}))
    *middle, top = chain(40, directory({"lost": digest_of(b"lost"), "x": X}, {"gone": digest_of(gone)}))
    root = packed(directory({"near": digest_of(b"near")}, {"top": digest_of(top)}))
    walk = walked(Store(*middle, top, root, b"x"), root)
    expected = {digest_key(digest_of(blob)) for blob in (b"near", b"lost", gone)}
    assert set(walk.missing) == expected and walk.missing_count == 3


def test_a_missing_root_is_named() -> None:
    assert walked(Store(), b"root").missing == [digest_key(digest_of(b"root"))]


def test_empty_blobs_are_never_missing_and_not_asked_for() -> None:
    root = packed(directory({"empty": digest_of(b"")}, {"nothing": digest_of(b"")}))
    store = Store(root)
    assert walked(store, root).missing == []
    assert (store.read, store.asked) == ([digest_key(digest_of(root))], [])
    assert InputTreeWalk(digest_of(b"")).done


def test_a_bomb_costs_a_read_for_each_distinct_directory() -> None:
    blobs = bomb(30, directory({"x": X}))
    store = Store(*blobs, b"x")
    assert walked(store, blobs[-1]).missing == []
    assert (len(store.read), len(store.asked)) == (31, 1)


def test_two_thousand_levels_are_walked() -> None:
    blobs = chain(2000, directory({"x": X}))
    store = Store(*blobs)
    assert walked(store, blobs[-1]).missing == [digest_key(X)]
    assert len(store.read) == 2001


def test_files_are_asked_for_once_in_large_batches_and_directories_read_in_batches() -> None:
    contents = [digest_of(str(number).encode()) for number in range(25_000)]
    blobs = wide(((f"{n}", contents[n % len(contents)]) for n in range(50_000)), folders=500)
    store = Store(*blobs)
    walk = walked(store, blobs[-1])
    assert (len(store.read), len(store.asked)) == (501, 25_000)
    assert store.rounds <= 5
    assert (walk.missing_count, len(walk.missing)) == (25_000, MAX_NAMED)


def test_a_batch_of_directories_is_bounded_by_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_tree, "_READ_BYTES", 1000)
    children = [Digest(hash=f"{number:064x}", size_bytes=400) for number in range(1, 4)]
    root = packed(directory(directories={f"{n}": child for n, child in enumerate(children)}))
    walk = InputTreeWalk(digest_of(root))
    walk.add(walk.unread()[0], root)
    assert [len(walk.unread()) for _ in range(3)] == [2, 1, 0]


def test_a_tree_with_too_many_entries_is_refused_with_the_limit() -> None:
    root = packed(directory({f"{number}": X for number in range(11)}))
    with pytest.raises(InvalidArgument, match=r"more than 10 files") as raised:
        Store(root).serve(InputTreeWalk(digest_of(root), max_entries=10))
    assert digest_key(digest_of(root)) in str(raised.value)


def test_a_directory_too_large_to_be_read_is_refused_with_the_limit_and_not_read() -> None:
    huge = Digest(hash="a" * 64, size_bytes=MAX_DIRECTORY_BYTES + 1)
    root = packed(directory(directories={"huge": huge}))
    store = Store(root)
    with pytest.raises(InvalidArgument, match=str(MAX_DIRECTORY_BYTES)):
        walked(store, root)
    with pytest.raises(InvalidArgument, match=str(MAX_DIRECTORY_BYTES)):
        InputTreeWalk(huge)
    assert len(store.read) == 1


def test_what_is_known_is_not_walked_again_and_bounds_what_is_known_then() -> None:
    known = packed(directory({"lost": digest_of(b"lost")}))
    root = packed(directory({"x": X}, {"known": digest_of(known)}))
    store = Store(root, b"x")
    wanted = bytes.fromhex(digest_of(known).hash)

    def until(key: bytes) -> float | None:
        return 7.0 if key.startswith(wanted) else None

    walk = store.serve(InputTreeWalk(digest_of(root), until))
    assert walk.missing == []
    assert walk.known_until == 7.0
    assert len(list(walk.directories)) == 1


# What a Directory must be


def refused(made: Directory) -> str:
    data = packed(made)
    with pytest.raises(InvalidArgument) as raised:
        parse_directory(digest_of(data), data)
    assert digest_key(digest_of(data)) in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "nul\0"])
@pytest.mark.parametrize("kind", ["files", "directories", "symlinks"])
def test_names_that_are_no_single_segment_are_refused(name: str, kind: str) -> None:
    value = "target" if kind == "symlinks" else X
    message = refused(directory(**{kind: {name: value}}))  # type: ignore[arg-type]
    assert repr(name) in message and "one segment" in message


@pytest.mark.parametrize(
    "made",
    [
        directory({"same": X}, {"same": X}),
        directory({"same": X}, symlinks={"same": "t"}),
        directory(directories={"same": X}, symlinks={"same": "t"}),
        Directory(files=[FileNode(name="same", digest=X)] * 2),
    ],
    ids=["file and directory", "file and symlink", "directory and symlink", "file and file"],
)
def test_a_name_for_two_entries_is_refused(made: Directory) -> None:
    message = refused(made)
    assert "'same'" in message and "another entry" in message


@pytest.mark.parametrize(
    ("digest", "problem"),
    [
        (Digest(hash="a" * 64, size_bytes=-1), "size_bytes is -1"),
        (Digest(hash="beef", size_bytes=1), "'beef'"),
        (Digest(hash="A" * 64, size_bytes=1), "lower-case"),
        (Digest(hash=EMPTY_HASH, size_bytes=1), "exclude each other"),
        (Digest(), "hash ''"),
    ],
    ids=["negative size", "short", "upper case", "empty with a size", "absent"],
)
@pytest.mark.parametrize("kind", ["files", "directories"])
def test_malformed_digests_are_refused(kind: str, digest: Digest, problem: str) -> None:
    message = refused(directory(**{kind: {"entry": digest}}))  # type: ignore[arg-type]
    assert "'entry'" in message and problem in message


@pytest.mark.parametrize("target", ["", "nul\0"])
def test_symlinks_without_a_usable_target_are_refused(target: str) -> None:
    assert "'link'" in refused(directory(symlinks={"link": target}))


def test_a_blob_that_is_no_directory_is_refused() -> None:
    data = b"\xff\xff\xff not a message"
    with pytest.raises(InvalidArgument, match="is not a Directory") as raised:
        parse_directory(digest_of(data), data)
    assert digest_key(digest_of(data)) in str(raised.value)


def test_long_names_are_cut_in_messages() -> None:
    assert len(refused(directory({"n" * 10_000: Digest()}))) < 500


def test_entries_in_another_order_are_taken() -> None:
    made = Directory()
    for name in ("b", "a"):
        made.files.add(name=name, digest=X)
    data = packed(made)
    assert [file.name for file in parse_directory(digest_of(data), data).files] == ["b", "a"]


def test_malformed_digests_of_root_and_command_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="'no'"):
        InputTreeWalk(Digest(hash="no"))
    with pytest.raises(InvalidArgument, match="'no'"):
        InputTreeWalk(X).want_file(Digest(hash="no"))
