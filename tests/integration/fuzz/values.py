"""Values that are seldom seen in tests: of the right type, and wrong in all other respects."""

import random

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.integration.fuzz.content import COMPRESSIBLE, DIGESTS, NAMED, SMALL
from tests.integration.fuzz.names import EVERY

INSTANCES = ("", "fuzz/one")
"""those that the server answers to, and that fuzzing may use up"""

_LONG = random.Random(3).randbytes(3000).hex()
_WIDE = "\U0001f400" * 4000
_STRANGE = [
    "",
    " ",
    "/",
    "//",
    "a",
    ".",
    "..",
    "../",
    "../../../etc/passwd",
    "a/../../b",
    "\0",
    "a\0b",
    "\n",
    "\r\n",
    "\x1b[31m",
    "é\u202e",
    "\ufffe",
    "\U0001f400",
    "%s%n{0}{",
    "'; DROP TABLE jobs; --",
    "\\",
    '"',
    "null",
    "-1",
    "1e400",
    "9" * 30,
    "9" * 5000,
    "٣",
    _LONG,
    _WIDE,
]
_INSTANCE_LIKE = [
    *(
        "a/blobs/b",
        "blobs",
        "uploads",
        "operations",
        "operations/x",
        "compressed-blobs/zstd",
        "actionResults",
    ),
    *("fuzz/one/", "/fuzz/one", "fuzz//one", "fuzz", "FUZZ/ONE", "capabilities", "fuzz/one\0", "."),
]
_HASH = DIGESTS[1].hash
_HASHES = [
    *(_HASH, _HASH.upper(), _HASH[:-1], _HASH + "0", _HASH[:40], " " + _HASH[1:], _HASH[:63] + "g", "0" * 64),
    *(_HASH[:63] + "\n", "\uff41" * 64, "../" + _HASH[3:], "sha256:" + _HASH, "f" * 96, "0" * 128),
]
_SIZES = ["0", "5", "-1", "05", "+5", "5.0", "", "٣", "9" * 18, "9" * 19, "9" * 5000, " 5", "0x5", "\0"]
_FILTERS = [
    *(
        "stage=queued",
        "stage = completed",
        "platform=Pool:nobody",
        "sort_order=queued_time(desc)",
        "stage=99",
    ),
    *(
        "name=x & command=true",
        "completed_time>2030-01-31T12:00:00Z",
        "queued_time<0001-01-01T00:00:00Z",
        "a=b",
    ),
    *("stage=queued&" * 100, "name=" + _LONG, 'command="\\', "queued_time=9999-12-31T23:59:59.999999-23:59"),
    *("platform=\0:\0", "action_digest=" + _HASH + "/5", "name>\ud7ff", "&", "=", "&&&&", "sort_order=stage"),
]
_PROPERTIES = [
    "OSFamily",
    "ISA",
    "Pool",
    "container-image",
    "capacity",
    "capacity-class",
    "long-poll",
    "Pool ",
]
_TYPES = [
    "type.googleapis.com/build.bazel.remote.execution.v2.ActionResult",
    "type.googleapis.com/build.bazel.remote.execution.v2.Action",
    *("type.googleapis.com/google.protobuf.Any", "type.googleapis.com/", "/", "x", "type.googleapis.com/a\0"),
]

strange_strings: SearchStrategy[str] = st.one_of(st.sampled_from(_STRANGE), st.text(max_size=12))


def _mostly(usual: SearchStrategy[str], *others: SearchStrategy[str]) -> SearchStrategy[str]:
    return st.one_of(usual, usual, usual, *others, strange_strings)


instances = _mostly(st.sampled_from(INSTANCES), st.sampled_from(_INSTANCE_LIKE))
hashes = _mostly(st.sampled_from(_HASHES), st.sampled_from([digest.hash for digest in DIGESTS]))
filters = _mostly(st.sampled_from(_FILTERS))
property_names = _mostly(st.sampled_from(_PROPERTIES))
property_values = _mostly(
    st.sampled_from(["linux", "nobody", "4", "1024", "1025", "0", "always", "9" * 4301])
)
names = _mostly(st.sampled_from(EVERY))
type_urls = _mostly(st.sampled_from(_TYPES))
sizes = st.sampled_from([0, 1, 5, -1, -(2**63), 2**63 - 1, 2**31, 2**40, 4 * 1024 * 1024])


@st.composite
def resource_names(draw: st.DrawFn) -> str:
    """Of ByteStream: right ones, and such as have a segment too many, too few, or a strange one."""
    digest = draw(st.sampled_from(DIGESTS))
    segments = [*draw(st.sampled_from([*INSTANCES, *INSTANCES, *_INSTANCE_LIKE])).split("/")]
    segments = [] if segments == [""] else segments
    if draw(st.booleans()):
        segments += ["uploads", draw(st.sampled_from(["u1", "u2", "", "x" * 200, "..", "\0", "é"]))]
    segments += draw(st.sampled_from([["blobs"], ["compressed-blobs", "zstd"], ["compressed-blobs", "gzip"]]))
    segments += draw(st.sampled_from([[], [], ["sha256"], ["sha1"], ["blake3"]]))
    usual = draw(st.booleans())
    segments.append(digest.hash if usual else draw(hashes))
    segments.append(str(digest.size_bytes) if usual else draw(st.sampled_from(_SIZES)))
    segments += draw(st.sampled_from([[], [], [], ["name"], ["a", "..", "b"], [""]]))
    if draw(st.integers(0, 4)) == 0:
        place = draw(st.integers(0, len(segments) - 1))
        segments[place : place + 1] = draw(st.sampled_from([[], ["blobs"], ["uploads"], ["\0"], ["9" * 400]]))
    return "/".join(segments)


_BLOBS = [*NAMED, b"\0", b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello", COMPRESSIBLE * 60]
blobs: SearchStrategy[bytes] = st.one_of(
    st.just(SMALL),
    st.sampled_from(_BLOBS),
    st.binary(max_size=24),
    st.sampled_from(NAMED).map(lambda b: b[:-1]),
)
