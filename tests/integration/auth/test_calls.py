"""Calls with tokens over a real server: who is known to handlers, who is denied, and what is logged."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import grpc
import jwt
import pytest
from buildgrid_scheduler.auth.interceptor import admitted
from buildgrid_scheduler.auth.policy import Right
from buildgrid_scheduler.config import ConfigError
from buildgrid_scheduler.config.auth import AuthConfig
from buildgrid_scheduler.server.auth import build_auth
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.credentials.tokens import ISSUER, SigningKey, jwks, payload, service_account
from tests.integration.auth.whoami import KINDS, WhoAmI, ask, bearer, denial, open_stream, serving, subject

KEY = SigningKey()
SECRET = "a secret of thirty-two characters"


def settings(folder: Path, **issuer: Any) -> AuthConfig:
    (folder / "jwks.json").write_bytes(jwks(KEY))
    usual = {
        "name": "corp",
        "issuer": ISSUER,
        "audiences": ["buildgrid"],
        "jwks": {"file": folder / "jwks.json"},
    }
    return AuthConfig.model_validate(
        {
            "jwt": [{**usual, **issuer}],
            "policy": [
                {"identities": [{"subject": "alice"}, {"subject": "bob"}], "rights": ["execute"]},
                {
                    "identities": [{"service_account": "builds/bot"}],
                    "rights": ["run-bots"],
                    "instances": ["main"],
                },
            ],
        }
    )


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[WhoAmI]:
    async with serving(settings(tmp_path)) as who:
        yield who


@pytest.fixture
async def channel(server: WhoAmI) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


@pytest.mark.parametrize("kind", [*KINDS, "read_and_write"])
async def test_handlers_of_all_kinds_know_the_caller(
    server: WhoAmI, channel: grpc.aio.Channel, kind: str
) -> None:
    server.turn.set()
    assert set(await ask(channel, bearer(KEY.token()), kind=kind)) == {b"alice"}


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_without_a_token_are_refused_before_their_handler_runs(
    server: WhoAmI, channel: grpc.aio.Channel, kind: str
) -> None:
    code, message = await denial(channel, kind=kind)
    assert code == StatusCode.UNAUTHENTICATED
    assert "no bearer token" in message
    assert server.handled == 0


async def test_a_stream_of_one_caller_is_not_anothers(server: WhoAmI, channel: grpc.aio.Channel) -> None:
    stream = open_stream(channel, bearer(KEY.token()))
    assert await stream.read() == b"alice"
    assert await subject(channel, bearer(KEY.token(sub="bob"))) == "bob"
    assert (await denial(channel))[0] == StatusCode.UNAUTHENTICATED
    server.turn.set()
    assert await stream.read() == b"alice"


async def test_many_calls_at_once_keep_their_callers_apart(channel: grpc.aio.Channel) -> None:
    tokens = {name: bearer(KEY.token(sub=name)) for name in ("alice", "bob")}
    names = ["alice", "bob"] * 50
    assert await asyncio.gather(*(subject(channel, tokens[name]) for name in names)) == names


@pytest.mark.parametrize(
    "values",
    [["Basic YTpi"], ["Bearer"], ["Bearer "], [""], ["Bearer {0}", "Bearer {0}"], ["{0}"], ["Bearer x"]],
)
async def test_another_authorization_is_refused(channel: grpc.aio.Channel, values: list[str]) -> None:
    metadata = tuple(("authorization", value.format(KEY.token())) for value in values)
    assert (await denial(channel, metadata))[0] == StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer"])
async def test_the_scheme_is_read_in_any_case(channel: grpc.aio.Channel, scheme: str) -> None:
    assert await subject(channel, (("authorization", f"{scheme} {KEY.token()}"),)) == "alice"


async def test_a_missing_right_is_named(channel: grpc.aio.Channel) -> None:
    code, message = await denial(channel, bearer(KEY.token(sub="mallory")))
    assert code == StatusCode.PERMISSION_DENIED
    assert "'mallory' (issuer corp): the right 'execute' in instance 'main' is missing" in message


async def test_a_bots_rights_end_at_its_instance(tmp_path: Path) -> None:
    async with (
        serving(settings(tmp_path, kubernetes=True)) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        server.right = Right.RUN_BOTS
        pod = bearer(KEY.token(**service_account("bot-1")))
        assert await ask(channel, pod, instance="main") == [b"system:serviceaccount:builds:bot"]
        assert (await denial(channel, pod, instance="other"))[0] == StatusCode.PERMISSION_DENIED
        elsewhere = bearer(KEY.token(**service_account("bot-1", namespace="elsewhere")))
        assert (await denial(channel, elsewhere))[0] == StatusCode.PERMISSION_DENIED


async def test_health_is_for_everybody_and_reflection_is_not(channel: grpc.aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    answer = await health.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING

    async def services(metadata: tuple[tuple[str, str], ...]) -> list[str]:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast(grpc.Channel, channel))
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        call = stub.ServerReflectionInfo(iter([request]), metadata=metadata)
        return [service.name async for answer in call for service in answer.list_services_response.service]

    assert "test.WhoAmI" in await services(bearer(KEY.token()))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await services(())
    assert caught.value.code() == StatusCode.UNAUTHENTICATED


async def test_an_unknown_method_is_unimplemented_for_those_who_are_known(channel: grpc.aio.Channel) -> None:
    async def call(metadata: tuple[tuple[str, str], ...]) -> StatusCode:
        method: Any = channel.unary_unary("/test.WhoAmI/nothing")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(b"", metadata=metadata)
        return caught.value.code()

    assert await call(bearer(KEY.token())) == StatusCode.UNIMPLEMENTED
    assert await call(()) == StatusCode.UNAUTHENTICATED


async def test_no_part_of_a_token_is_ever_logged_or_answered(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    good = KEY.token()
    tokens = [
        good,
        good[:-10] + "AAAAAAAAAA",
        good.replace(".", "!"),
        KEY.token(aud="elsewhere"),
        KEY.token(sub="mallory"),
        KEY.token(exp=1_000_000_000),
        SigningKey("other").token(),
        jwt.encode(payload(), SECRET, "HS256"),
    ]
    said = ""
    for token in tokens[1:]:
        for metadata in (bearer(token), (("authorization", token),)):
            said += (await denial(channel, metadata))[1]
    await subject(channel, bearer(good))
    assert caplog.text.count("denied: ") >= len(tokens)
    for token in tokens:
        for part in token.replace("!", ".").split("."):
            assert part not in caplog.text
            assert part not in said


async def test_denials_are_logged_with_method_peer_and_reason(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    await denial(channel, bearer(KEY.token(aud="elsewhere")))
    assert "denied: /test.WhoAmI/unary_unary from ipv4:127.0.0.1:" in caplog.text
    assert "another audience" in caplog.text


async def test_a_fault_of_ours_is_not_shown_and_lets_nobody_in(
    server: WhoAmI,
    channel: grpc.aio.Channel,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("shown to nobody")

    monkeypatch.setattr("buildgrid_scheduler.auth.jwt.verified_claims", broken)
    code, message = await denial(channel, bearer(KEY.token()))
    assert code == StatusCode.INTERNAL
    assert "shown to nobody" not in message
    incident = message.split("incident ")[1].split(":")[0]
    assert incident in caplog.text
    assert "shown to nobody" in caplog.text
    assert server.handled == 0


def test_a_handler_that_would_run_on_another_thread_is_not_served() -> None:
    async def admit(_context: object) -> None:
        """Everybody."""

    handler: Any = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    with pytest.raises(TypeError, match="is not async"):
        admitted(handler, admit)


async def test_without_authentication_there_is_no_interceptor_and_everybody_is_served() -> None:
    assert build_auth(AuthConfig(), None).interceptors == ()
    async with (
        serving(AuthConfig()) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        assert await subject(channel) == "nobody"


def test_a_file_with_keys_that_cannot_be_used_is_named_at_start(tmp_path: Path) -> None:
    config = settings(tmp_path)
    (tmp_path / "jwks.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"auth\.jwt\[0\]\.jwks\.file: it is not a JSON Web Key Set"):
        build_auth(config, None)
    (tmp_path / "jwks.json").unlink()
    with pytest.raises(ConfigError, match=r"jwks\.json: cannot be read: No such file"):
        build_auth(config, None)
    (tmp_path / "secret").write_text("short")
    config = settings(tmp_path, jwks=None, secret_file=tmp_path / "secret")
    with pytest.raises(ConfigError, match=r"auth\.jwt\[0\]\.secret_file: the secret has 5 bytes"):
        build_auth(config, None)
