"""The flags of credentials: what is understood, and what the refusals say."""

import argparse
from pathlib import Path

import pytest
from buildgrid_client.credential_flags import add_credential_flags, credentials_of
from buildgrid_client.credentials import Credentials

from tests.credentials.certificates import Authority

CA = Authority()
PLAIN, SECURE, LOCAL = "grpc://server:1", "grpcs://server:1", "grpc://127.0.0.1:1"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files are, whose names are the flags' values."""
    monkeypatch.chdir(tmp_path)
    Path("ca").write_bytes(CA.pem)
    CA.client("me").write(tmp_path, "me")
    CA.client("other").write(tmp_path, "other")
    Path("token").write_text("secret-token")
    Path("empty").write_text("")
    return tmp_path


def credentials(*flags: str, endpoints: tuple[str, ...] = (SECURE,)) -> Credentials:
    parser = argparse.ArgumentParser()
    add_credential_flags(parser, "PROGRAM")
    return credentials_of(parser.parse_args(flags), endpoints)


def test_files_are_taken_as_they_are_named() -> None:
    given = credentials(
        *("--tls-ca", "ca", "--tls-certificate", "me.crt", "--tls-key", "me.key", "--token-file", "token")
    )
    assert (given.tls.ca, given.tls.certificate, given.tls.key) == (
        Path("ca"),
        Path("me.crt"),
        Path("me.key"),
    )
    assert given.token is not None
    assert given.token.metadata() == (("authorization", "Bearer secret-token"),)


def test_variables_are_taken_where_there_is_no_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROGRAM_TLS_CA", "ca")
    monkeypatch.setenv("PROGRAM_TOKEN_FILE", "none")
    monkeypatch.setenv("PROGRAM_TLS_KEY", "")
    given = credentials("--token-file", "token")
    assert (given.tls.ca, given.tls.key) == (Path("ca"), None)
    assert given.token is not None


def test_without_flags_there_are_none() -> None:
    assert credentials(endpoints=(PLAIN,)) == Credentials()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--tls-certificate", "me.crt"], "--tls-certificate needs --tls-key"),
        (["--tls-key", "me.key"], "--tls-key needs --tls-certificate"),
        (["--tls-ca", "none"], "--tls-ca: none cannot be read (No such file or directory); name a file"),
        (["--tls-ca", "."], "--tls-ca: . cannot be read (Is a directory)"),
        (["--tls-ca", "empty"], "--tls-ca: empty is empty"),
        (["--tls-ca", "token"], "--tls-ca: token holds no certificate of a CA, in PEM"),
        (["--tls-certificate", "token", "--tls-key", "me.key"], "--tls-certificate: token holds no cert"),
        (["--tls-certificate", "me.crt", "--tls-key", "other.key"], "--tls-key: other.key is not the key of"),
        (["--token-file", "none"], "--token-file: none cannot be read (No such file or directory); name a"),
        (["--token-file", "empty"], "--token-file: empty is empty; write it before this starts"),
        (["--token-file", "me.crt"], "--token-file: me.crt must hold a token and nothing else"),
    ],
)
def test_what_cannot_be_used_names_its_flag(flags: list[str], told: str) -> None:
    with pytest.raises(ValueError) as caught:
        credentials(*flags)
    assert str(caught.value).startswith(told)


def test_tls_needs_an_endpoint_with_tls() -> None:
    with pytest.raises(
        ValueError, match=r"--tls-ca: grpc://server:1 is without TLS; name it grpcs://server:1"
    ):
        credentials("--tls-ca", "ca", endpoints=(PLAIN, LOCAL))
    assert credentials("--tls-ca", "ca", endpoints=(LOCAL, SECURE)).tls.ca == Path("ca")


def test_a_token_in_plain_text_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    for quiet in ((SECURE,), (LOCAL,), ("grpc://localhost:1", "grpc://[::1]:1")):
        credentials("--token-file", "token", endpoints=quiet)
    assert caplog.text == ""
    credentials("--token-file", "token", endpoints=(SECURE, PLAIN))
    assert "the token of --token-file goes to grpc://server:1 as plain text" in caplog.text
    assert "secret-token" not in caplog.text
