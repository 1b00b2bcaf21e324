"""Files of credentials: what can be used, and what changes them."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from buildgrid_client.credentials import BearerToken, TlsFiles, TlsWatch, UnusableFile
from cryptography.hazmat.primitives import serialization

from tests.credentials.certificates import Authority

CA = Authority()


def files(folder: Path) -> TlsFiles:
    """A CA, a certificate and its key."""
    ca = folder / "ca.pem"
    ca.write_bytes(CA.pem)
    return TlsFiles(ca, *CA.client("me").write(folder))


@pytest.fixture
def too_many_open(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets so many of the next files that are read fail, though they are what they should be."""
    left, really = 0, Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        nonlocal left
        if left > 0:
            left -= 1
            raise OSError(errno.EMFILE, "too many open files")
        return really(path)

    def fail(times: int) -> None:
        nonlocal left
        left = times

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    return fail


def encrypted(key: bytes) -> bytes:
    loaded = serialization.load_pem_private_key(key, None)
    return loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("ca.pem", b"", "holds no certificate of a CA"),
        ("ca.pem", b"\xff\xfe no PEM", "holds no certificate of a CA"),
        ("ca.pem", CA.pem[:200], "holds no certificate of a CA"),
        ("tls.crt", b"no PEM", "holds no certificate"),
        ("tls.key", b"no PEM", "holds no private key"),
        ("tls.key", encrypted(CA.client("me").key), "holds no private key without a password"),
        ("tls.key", CA.client("me").key, "is not the key of the certificate in"),
    ],
)
def test_a_file_that_is_of_no_use_is_named(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    tls = files(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnusableFile, match=problem) as caught:
        tls.read()
    assert caught.value.path == tmp_path / name
    assert str(caught.value).startswith(f"{tmp_path / name} ")


def test_files_are_followed_once_they_fit_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watch = TlsWatch(files(tmp_path), "grpcs://server:1")
    assert watch.renewed() is None
    new = CA.client("me")
    (tmp_path / "tls.crt").write_bytes(new.certificate)
    assert [watch.renewed() for _ in range(3)] == [None] * 3, "the key is still the old one"
    assert caplog.text.count("cannot be used") == 1 and "grpcs://server:1" in caplog.text
    (tmp_path / "tls.key").write_bytes(new.key)
    assert watch.renewed() is not None
    assert watch.renewed() is None


def test_a_ca_that_is_gone_for_a_while_changes_nothing(tmp_path: Path) -> None:
    tls = files(tmp_path)
    watch = TlsWatch(tls, "it")
    (tmp_path / "ca.pem").unlink()
    assert watch.renewed() is None
    (tmp_path / "ca.pem").write_bytes(Authority().pem)
    assert watch.renewed() is not None


def test_files_that_could_not_be_read_for_once_are_read_again(
    tmp_path: Path, too_many_open: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    watch = TlsWatch(files(tmp_path), "it")
    (tmp_path / "ca.pem").write_bytes(Authority().pem)
    too_many_open(3)
    assert [watch.renewed() for _ in range(3)] == [None] * 3
    assert caplog.text.count("too many open files") == 1
    assert watch.renewed() is not None, "nothing about the files has changed meanwhile"
    assert watch.renewed() is None


def test_a_certificate_and_its_key_come_together(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs its key"):
        TlsFiles(certificate=tmp_path / "tls.crt")


def test_a_token_is_what_its_file_holds_now(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("  first\n")
    token = BearerToken(path)
    assert token.metadata() == (("authorization", "Bearer first"),)
    path.write_text("other")
    assert token.metadata() == (("authorization", "Bearer other"),)


@pytest.mark.parametrize("content", [b"", b" \n", b"two\nlines", b"caf\xc3\xa9", b"\xff", b"\x00"])
def test_what_is_no_token_is_refused_at_first_and_ignored_later(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=str(path)):
        BearerToken(path).metadata()
    path.write_bytes(b"good")
    token = BearerToken(path)
    good = token.metadata()
    path.write_bytes(content)
    assert [token.metadata() for _ in range(3)] == [good] * 3
    assert caplog.text.count("stays as it was") == 1
    assert "lines" not in caplog.text, "it may be a part of a token"


def test_a_token_that_becomes_readable_is_read(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first")
    token = BearerToken(path)
    token.metadata()
    path.write_text("2nd..")
    status = path.stat()
    path.unlink()
    assert token.metadata()[0][1] == "Bearer first"
    path.write_text("third")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # whatever times the one who wrote it gave it
    assert token.metadata()[0][1] == "Bearer third"


def test_a_token_that_could_not_be_read_for_once_is_read_again(
    tmp_path: Path, too_many_open: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "token"
    path.write_text("first")
    token = BearerToken(path)
    token.metadata()
    path.write_text("second")
    too_many_open(3)
    assert [token.metadata()[0][1] for _ in range(3)] == ["Bearer first"] * 3
    assert caplog.text.count("too many open files") == 1
    assert token.metadata()[0][1] == "Bearer second", "nothing about the file has changed meanwhile"
