"""What is in the CAS before the fuzzing begins: plain things, and things made to do harm."""

import random
from collections.abc import Iterable

from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Action,
    ActionResult,
    Command,
    Digest,
    Directory,
    DirectoryNode,
    OutputDirectory,
    Platform,
    Tree,
)
from google.protobuf.duration_pb2 import Duration

DEEP_LEVELS = 2000
BOMB_LEVELS = 30


def _directory_chain(levels: int, references: int) -> list[bytes]:
    """Serialized directories, each refers so many times to the one before it. The last is the root."""
    chain = [Directory().SerializeToString()]
    for _ in range(levels):
        below = Directory()
        for number in range(references):
            below.directories.add(name=f"d{number}", digest=digest_of(chain[-1]))
        chain.append(below.SerializeToString())
    return chain


def _directory(*, files: Iterable[str] = (), links: Iterable[tuple[str, str]] = ()) -> bytes:
    directory = Directory()
    for name in files:
        directory.files.add(name=name, digest=digest_of(SMALL))
    for name, points_to in links:
        directory.symlinks.add(name=name, target=points_to)
    return directory.SerializeToString()


def _action(command: bytes, root: bytes, salt: str = "", pool: str = "", **fields: object) -> bytes:
    action = Action(command_digest=digest_of(command), input_root_digest=digest_of(root), salt=salt.encode())
    for name, value in fields.items():
        if isinstance(value, Duration):
            getattr(action, name).CopyFrom(value)
        else:
            setattr(action, name, value)
    if pool:
        action.platform.CopyFrom(Platform(properties=[Platform.Property(name="Pool", value=pool)]))
    return action.SerializeToString()


EMPTY, SMALL, COMPRESSIBLE = b"", b"hello", b"a" * 5000
NOISE = random.Random(1).randbytes(20_000)
NOBODY = "nobody"
"""a pool without bots"""

ROOT = _directory(files=["a", "b"])
LOOP = _directory(links=[("here", "there"), ("there", "here"), ("self", "self"), ("up", "../up")])
ESCAPE = _directory(
    files=["../a", "/etc/passwd", "..", "", "a/../../b", "\0", "a", "a"],
    links=[("out", "../../../../etc"), ("root", "/"), ("x/../../y", "x")],
)
DEEP = _directory_chain(DEEP_LEVELS, 1)
BOMB = _directory_chain(BOMB_LEVELS, 2)
DANGLING = Directory(directories=[DirectoryNode(name="gone", digest=Digest(hash="f" * 64, size_bytes=7))])

COMMAND = Command(arguments=["true"], output_paths=["out"]).SerializeToString()
ESCAPING_COMMAND = Command(
    arguments=["\0", "--", "x" * 5000],
    output_paths=["../../etc", "/", "\0"],
    output_files=[""],
    working_directory="../..",
).SerializeToString()

ACTION = _action(COMMAND, ROOT)
UNCACHED = _action(COMMAND, ROOT, do_not_cache=True)
NOBODYS_ACTION = _action(COMMAND, ROOT, pool=NOBODY)
WRONG_ACTIONS = [
    _action(SMALL, ROOT),
    _action(EMPTY, ROOT),
    _action(COMMAND, NOISE),
    _action(COMMAND, COMMAND),
    _action(NOISE, NOISE, timeout=Duration(seconds=-1)),
    _action(COMMAND, ROOT, timeout=Duration(seconds=2**62, nanos=2**31 - 1)),
    _action(COMMAND, ROOT, pool="\0"),
    _action(COMMAND, ROOT, pool="é" * 3000),
    _action(COMMAND, ROOT, pool=random.Random(2).randbytes(3000).hex()),
    Action(
        command_digest=Digest(hash="a", size_bytes=-1), input_root_digest=digest_of(ROOT)
    ).SerializeToString(),
    Action().SerializeToString() + b"\x0b" * 150,
]
HARMFUL_ACTIONS = [
    _action(ESCAPING_COMMAND, ESCAPE),
    _action(COMMAND, LOOP),
    _action(COMMAND, DEEP[-1]),
    _action(COMMAND, BOMB[-1]),
]

TREE = Tree(root=Directory.FromString(ROOT), children=[Directory.FromString(LOOP)]).SerializeToString()
RESULT = ActionResult(stdout_digest=digest_of(SMALL), stdout_raw=b"")
RESULT.output_files.add(path="a", digest=digest_of(COMPRESSIBLE))
RESULT.output_directories.append(OutputDirectory(path="d", tree_digest=digest_of(TREE)))
RESULT.output_directories.append(OutputDirectory(path="b", root_directory_digest=digest_of(BOMB[-1])))

ACTIONS = [ACTION, UNCACHED, NOBODYS_ACTION, *WRONG_ACTIONS, *HARMFUL_ACTIONS]
OTHERS = [
    *(
        EMPTY,
        SMALL,
        COMPRESSIBLE,
        NOISE,
        ROOT,
        LOOP,
        ESCAPE,
        DEEP[-1],
        BOMB[-1],
        COMMAND,
        ESCAPING_COMMAND,
        TREE,
    ),
    DANGLING.SerializeToString(),
    RESULT.SerializeToString(),
]
NAMED = [*ACTIONS, *OTHERS]
"""what requests name"""
ALL = list(dict.fromkeys([*NAMED, *DEEP, *BOMB]))
DIGESTS = [digest_of(blob) for blob in NAMED]
