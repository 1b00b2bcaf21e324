"""Names of the ByteStream service."""

import pytest
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.services.resource_names import (
    BlobName,
    UploadName,
    parse_blob_name,
    parse_upload_name,
)
from hypothesis import given
from hypothesis import strategies as st

DIGEST = digest_of(b"content")
KEY = digest_key(DIGEST)
KEYWORDS = ("blobs", "compressed-blobs", "uploads")


@pytest.mark.parametrize("instance", ["", "main", "main/team/a"])
@pytest.mark.parametrize(
    ("form", "zstd"),
    [
        ("blobs/{}", False),
        ("blobs/sha256/{}", False),
        ("compressed-blobs/zstd/{}", True),
        ("compressed-blobs/zstd/sha256/{}", True),
    ],
)
def test_each_form_names_a_blob_and_an_upload(instance: str, form: str, zstd: bool) -> None:
    prefix = f"{instance}/" if instance else ""
    blob = BlobName(instance, DIGEST.hash, DIGEST.size_bytes, zstd)
    assert blob.digest == DIGEST
    assert parse_blob_name(prefix + form.format(KEY)) == blob
    for suffix in ("", "/", "/file.o", "/blobs/uploads/x"):
        name = f"{prefix}uploads/some-uuid/{form.format(KEY)}{suffix}"
        assert parse_upload_name(name) == UploadName(blob, "some-uuid")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "blobs",
        "blobs/",
        KEY,
        f"blob/{KEY}",
        f"blobs/{DIGEST.hash}",
        f"blobs/{KEY}/more",
        f"blobs/{DIGEST.hash}/",
        f"blobs/{DIGEST.hash}/-7",
        f"blobs/{DIGEST.hash}/+7",
        f"blobs/{DIGEST.hash}/٧",  # noqa: RUF001 - a digit to Python, not to us
        f"blobs/{DIGEST.hash}/{10**19}",
        f"blobs/{DIGEST.hash.upper()}/7",
        f"blobs/{DIGEST.hash[1:]}/7",
        f"blobs/md5/{KEY}",
        "blobs/../../../etc/passwd/1",
        f"compressed-blobs/{KEY}",
        f"compressed-blobs/identity/{KEY}",
        f"compressed-blobs/ZSTD/{KEY}",
    ],
)
def test_malformed_names_are_refused_for_reading_and_writing(name: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_blob_name(name)
    # What comes after the size of an upload is the client's.
    if not name.endswith("/more"):
        with pytest.raises(InvalidArgument):
            parse_upload_name(f"uploads/some-uuid/{name}")


@pytest.mark.parametrize(
    "name", [f"blobs/{KEY}", "uploads", "uploads/uuid", f"uploads//blobs/{KEY}", f"uploads/blobs/{KEY}"]
)
def test_malformed_upload_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_upload_name(name)


def test_a_refusal_shows_the_name_and_the_right_form() -> None:
    with pytest.raises(InvalidArgument, match=r"'nonsense' is not \[INSTANCE/\]blobs/HASH/SIZE"):
        parse_blob_name("nonsense")


@given(st.text())
def test_any_text_is_a_name_or_refused(text: str) -> None:
    for parse in (parse_blob_name, parse_upload_name):
        try:
            parse(text)
        except InvalidArgument as error:
            assert "resource_name" in str(error) or "digest" in str(error)


segments = st.text(st.characters(exclude_characters="/"), min_size=1).filter(lambda s: s not in KEYWORDS)


@given(st.lists(segments).map("/".join), segments.filter(lambda s: len(s) <= 128))
def test_any_instance_and_uuid_come_out_as_they_went_in(instance: str, uuid: str) -> None:
    prefix = f"{instance}/" if instance else ""
    parsed = parse_upload_name(f"{prefix}uploads/{uuid}/blobs/{KEY}")
    assert (parsed.blob.instance, parsed.uuid) == (instance, uuid)
