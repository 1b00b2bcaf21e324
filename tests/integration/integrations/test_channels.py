"""Channels with TLS and tokens whose files change under them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import grpc
import pytest
from buildgrid_client.credentials import BearerToken, TlsFiles
from buildgrid_client.digests import digest_of
from buildgrid_scheduler.assets import AssetClient
from buildgrid_scheduler.logstreams import LogStreams
from buildgrid_scheduler.outgoing.channel import CREDENTIALS_CHECK, ReloadingChannel
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.integrations.grpc_servers import AssetServer, LogStreamServer


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def self_signed() -> tuple[bytes, bytes]:
    """(certificate, key) of localhost, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.fixture
def secure_server(tmp_path: Path) -> Iterator[AssetServer]:
    """An asset service with TLS, whose CA is in `ca.pem`."""
    certificate, key = self_signed()
    (tmp_path / "ca.pem").write_bytes(certificate)
    server = AssetServer(grpc.ssl_server_credentials([(key, certificate)]))
    yield server
    server.stop()


def push(client: AssetClient) -> None:
    client.push_blob(uris=["urn:x"], blob_digest=digest_of(b"x"))


def test_a_token_is_sent_over_tls_and_followed(secure_server: AssetServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    channel = ReloadingChannel(secure_server.endpoint, TlsFiles(ca=tmp_path / "ca.pem"), BearerToken(token))
    with AssetClient(channel) as client:
        push(client)
        token.write_text("the second")
        push(client)
    assert secure_server.tokens == ["Bearer first", "Bearer the second"]


def test_a_server_that_another_ca_vouches_for_is_not_believed(
    secure_server: AssetServer, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_bytes(self_signed()[0])
    channel = ReloadingChannel(secure_server.endpoint, TlsFiles(ca=tmp_path / "ca.pem"))
    with AssetClient(channel) as client, pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
        push(client)
    assert secure_server.pushed == []


def test_a_changed_ca_is_believed_without_a_restart(secure_server: AssetServer, tmp_path: Path) -> None:
    time = Time()
    ca = tmp_path / "ca.pem"
    right = ca.read_bytes()
    ca.write_bytes(self_signed()[0])
    channel = ReloadingChannel(secure_server.endpoint, TlsFiles(ca=ca), clock=time)
    with AssetClient(channel) as client:
        with pytest.raises(grpc.RpcError):
            push(client)
        ca.write_bytes(right)
        time.now += CREDENTIALS_CHECK
        push(client)
    assert len(secure_server.pushed) == 1


def test_files_that_are_gone_for_a_while_leave_the_connection_as_it_is(
    secure_server: AssetServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    time = Time()
    ca = tmp_path / "ca.pem"
    channel = ReloadingChannel(secure_server.endpoint, TlsFiles(ca=ca), clock=time)
    with AssetClient(channel) as client:
        ca.unlink()
        time.now += CREDENTIALS_CHECK
        push(client)
    assert len(secure_server.pushed) == 1
    assert "cannot be read, the connection stays" in caplog.text


def test_calls_that_run_beside_each_other_carry_the_token_too(
    log_stream_server: LogStreamServer, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    client = LogStreams(ReloadingChannel(log_stream_server.endpoint, token=BearerToken(token)), timeout=20)
    assert client.create("team").stdout_read.startswith("team/streams/")
    client.stop()
    assert log_stream_server.tokens == ["Bearer secret"] * 2


def test_files_that_are_not_there_are_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ReloadingChannel("grpcs://localhost:1", TlsFiles(ca=tmp_path / "none"))
    with pytest.raises(FileNotFoundError):
        ReloadingChannel("grpc://localhost:1", token=BearerToken(tmp_path / "none"))
