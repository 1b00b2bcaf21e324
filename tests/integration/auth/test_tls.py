"""TLS on a real server: certificates that are renewed without a restart, and callers with certificates."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from buildgrid_scheduler.auth.tls import CertificateFiles, ReloadingCertificate
from buildgrid_scheduler.config import ConfigError
from buildgrid_scheduler.config.auth import AuthConfig, TlsConfig
from buildgrid_scheduler.server.auth import server_credentials
from cryptography.hazmat.primitives import serialization
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.credentials.certificates import Authority, Pair
from tests.credentials.tokens import ISSUER, SigningKey, jwks
from tests.integration.auth.whoami import KINDS, ask, bearer, denial, open_stream, serving, subject

KEY = SigningKey()
POLICY = [{"identities": [{"subject": "**"}], "instances": ["main"], "rights": ["execute"]}]


@pytest.fixture
def authority() -> Authority:
    return Authority()


def tls(folder: Path, authority: Authority, clients: Authority | None = None) -> TlsConfig:
    certificate, key = authority.server().write(folder)
    if clients is not None:
        (folder / "clients.crt").write_bytes(clients.pem)
    return TlsConfig(
        certificate_file=certificate,
        key_file=key,
        client_ca_file=None if clients is None else folder / "clients.crt",
    )


@asynccontextmanager
async def connected(port: int, ca: Authority, pair: Pair | None = None) -> AsyncIterator[grpc.aio.Channel]:
    """A connection of its own."""
    credentials = grpc.ssl_channel_credentials(
        ca.pem, pair.key if pair else None, pair.certificate if pair else None
    )
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials, options) as channel:
        yield channel


async def refused(port: int, ca: Authority, pair: Pair | None = None) -> None:
    async with connected(port, ca, pair) as channel:
        assert (await denial(channel))[0] == StatusCode.UNAVAILABLE


async def test_a_renewed_certificate_is_for_new_connections_and_open_ones_stay(
    tmp_path: Path, authority: Authority
) -> None:
    renewed = Authority("renewed")
    async with (
        serving(AuthConfig(), tls(tmp_path, authority)) as server,
        connected(server.port, authority) as old,
    ):
        assert await subject(old) == "nobody"
        stream = open_stream(old)
        assert await stream.read() == b"nobody"
        renewed.server().write(tmp_path)
        async with connected(server.port, renewed) as new:
            assert await subject(new) == "nobody"
        await refused(server.port, authority)
        server.turn.set()
        assert await stream.read() == b"nobody"
        assert await subject(old) == "nobody"


@pytest.mark.parametrize("trouble", ["another key", "no certificate", "cut off", "gone"])
async def test_files_that_cannot_be_used_change_nothing(
    tmp_path: Path, authority: Authority, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = tls(tmp_path, authority)
    async with serving(AuthConfig(), config) as server:
        good = config.certificate_file.read_bytes()
        if trouble == "another key":
            config.key_file.write_bytes(authority.server().key)
        elif trouble == "gone":
            config.certificate_file.unlink()
        else:
            config.certificate_file.write_bytes(
                b"" if trouble == "no certificate" else good[: len(good) // 2]
            )
        for _ in range(2):
            async with connected(server.port, authority) as channel:
                assert await subject(channel) == "nobody"
        assert caplog.text.count("the last good certificate stays in use") == 1
        renewed = Authority("renewed")
        renewed.server().write(tmp_path)
        async with connected(server.port, renewed) as channel:
            assert await subject(channel) == "nobody"


async def test_a_secret_that_a_kubelet_replaces_is_found(tmp_path: Path, authority: Authority) -> None:
    renewed = Authority("renewed")

    def publish(version: str, by: Authority) -> None:
        (tmp_path / version).mkdir()
        by.server().write(tmp_path / version)
        (tmp_path / "..new").symlink_to(version)
        (tmp_path / "..new").replace(tmp_path / "..data")

    publish("1", authority)
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    config = TlsConfig(certificate_file=tmp_path / "tls.crt", key_file=tmp_path / "tls.key")
    async with serving(AuthConfig(), config) as server:
        publish("2", renewed)
        async with connected(server.port, renewed) as channel:
            assert await subject(channel) == "nobody"


def test_unchanged_files_are_no_new_configuration(tmp_path: Path, authority: Authority) -> None:
    pair = authority.server()
    certificate = ReloadingCertificate(CertificateFiles(*pair.write(tmp_path)))
    assert certificate.changed() is None
    pair.write(tmp_path)
    assert certificate.changed() is None
    authority.server().write(tmp_path)
    assert certificate.changed() is not None
    assert certificate.changed() is None


def test_at_start_the_files_must_be_good(tmp_path: Path, authority: Authority) -> None:
    config = tls(tmp_path, authority, authority)
    assert config.client_ca_file is not None
    encrypted = serialization.load_pem_private_key(config.key_file.read_bytes(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    for path, content, said in (
        (config.certificate_file, b"no", r"tls\.crt: holds no certificate in PEM"),
        (config.key_file, b"no", r"tls\.key: is not an unencrypted private key"),
        (config.key_file, encrypted, r"tls\.key: is not an unencrypted private key"),
        (config.key_file, authority.server().key, r"tls\.key: is not the key of .*tls\.crt"),
        (config.client_ca_file, b"no", r"clients\.crt: holds no certificate in PEM"),
        (config.client_ca_file, None, r"clients\.crt: cannot be read: No such file"),
    ):
        good = path.read_bytes()
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(ConfigError, match=f"^tls: .*{said}"):
            server_credentials(config)
        path.write_bytes(good)
    assert server_credentials(config) is not None
    assert server_credentials(None) is None


def mtls(**fields: Any) -> AuthConfig:
    return AuthConfig.model_validate({"mtls": fields, "policy": POLICY})


@pytest.mark.parametrize("kind", [*KINDS, "read_and_write"])
async def test_a_certificate_says_who_calls(tmp_path: Path, authority: Authority, kind: str) -> None:
    clients = Authority("clients")
    async with (
        serving(mtls(), tls(tmp_path, authority, clients)) as server,
        connected(server.port, authority, clients.client("alice")) as channel,
        connected(server.port, authority, clients.client("pod", uris=("spiffe://c/bot",))) as other,
    ):
        server.turn.set()
        assert set(await ask(channel, kind=kind)) == {b"alice"}
        assert set(await ask(other, kind=kind)) == {b"spiffe://c/bot"}
        code, message = await denial(channel, kind=kind, instance="other")
        assert code == StatusCode.PERMISSION_DENIED
        assert "'alice' (issuer mtls): the right 'execute' in instance 'other'" in message


@pytest.mark.parametrize("kind", KINDS)
async def test_a_certificate_that_names_nobody_is_refused_before_the_handler_runs(
    tmp_path: Path, authority: Authority, kind: str
) -> None:
    async with (
        serving(mtls(subject=["email"]), tls(tmp_path, authority, authority)) as server,
        connected(server.port, authority, authority.client("alice")) as channel,
    ):
        assert (await denial(channel, kind=kind))[0] == StatusCode.UNAUTHENTICATED
        assert server.handled == 0
        health: Any = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status


async def test_who_has_no_certificate_of_the_ca_cannot_connect(tmp_path: Path, authority: Authority) -> None:
    clients = Authority("clients")
    async with serving(mtls(), tls(tmp_path, authority, clients)) as server:
        await refused(server.port, authority)
        await refused(server.port, authority, authority.client("alice"))
        await refused(server.port, authority, clients.client("alice", life=timedelta(minutes=-1)))


async def test_a_renewed_ca_of_clients_is_for_new_connections(tmp_path: Path, authority: Authority) -> None:
    old, new = Authority("old"), Authority("new")
    async with serving(mtls(), tls(tmp_path, authority, old)) as server:
        (tmp_path / "clients.crt").write_bytes(new.pem)
        async with connected(server.port, authority, new.client("alice")) as channel:
            assert await subject(channel) == "alice"
        await refused(server.port, authority, old.client("alice"))


async def test_with_both_a_token_counts_before_the_certificate(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "jwks.json").write_bytes(jwks(KEY))
    issuer = {"issuer": ISSUER, "audiences": ["buildgrid"], "jwks": {"file": tmp_path / "jwks.json"}}
    both = AuthConfig.model_validate({"jwt": [issuer], "mtls": {}, "policy": POLICY})
    async with (
        serving(both, tls(tmp_path, authority, authority)) as server,
        connected(server.port, authority, authority.client("machine")) as channel,
    ):
        assert await subject(channel) == "machine"
        assert await subject(channel, bearer(KEY.token())) == "alice"
        assert (await denial(channel, bearer(KEY.token(aud="x"))))[0] == StatusCode.UNAUTHENTICATED


async def test_tokens_over_tls_need_no_client_certificate(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "jwks.json").write_bytes(jwks(KEY))
    issuer = {"issuer": ISSUER, "audiences": ["buildgrid"], "jwks": {"file": tmp_path / "jwks.json"}}
    auth = AuthConfig.model_validate({"jwt": [issuer], "policy": POLICY})
    async with (
        serving(auth, tls(tmp_path, authority)) as server,
        connected(server.port, authority) as channel,
    ):
        assert await subject(channel, bearer(KEY.token())) == "alice"
        assert (await denial(channel))[0] == StatusCode.UNAUTHENTICATED
