"""Who may call what: every method of a server that asks for identities, against all kinds of callers."""

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as reapi
from buildgrid_scheduler.auth.policy import INCLUDES, Right
from grpc import StatusCode
from grpc_reflection.v1alpha import reflection_pb2

from tests.credentials.tokens import SigningKey
from tests.integration.server.conftest import StartServer
from tests.integration.server.rpc_table import METHODS, Needs, call, methods_of
from tests.integration.server.secured import ADMIN_ELSEWHERE, Credentials, Secured, with_right, without_right
from tests.integration.server.server_process import Server

HEALTH = "grpc.health.v1.Health/Check"
CAPABILITIES = "build.bazel.remote.execution.v2.Capabilities/GetCapabilities"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@pytest.fixture
def channel(secured: Secured) -> Iterator[grpc.Channel]:
    """Encrypted, and without a token of its own."""
    with secured.credentials.plain_channel(secured.server.endpoint) as channel:
        yield channel


def bad_tokens(credentials: Credentials, subject: str) -> dict[str, str]:
    """Tokens for whoever may call, that are worth nothing; by what the denial says."""
    good = credentials.token(subject)
    header, claims, _ = good.split(".")
    unsigned = f"{header}.{claims}.{'A' * 86}"
    credentials.made.append(unsigned)
    stranger = SigningKey("corp-1")  # the name of the right key
    return {
        "signature is that of no known key": credentials.token(subject, stranger),
        "is that of no known key of its issuer": unsigned,
        "expired": credentials.token(subject, exp=int(time.time()) - 3600),
        "another audience": credentials.token(subject, aud="elsewhere"),
        "not one that this server trusts": credentials.token(subject, iss="https://evil.example.org"),
        "not a JSON Web Token": "a-token-that-is-none",
    }


def test_the_table_has_every_method_that_the_server_offers(secured: Secured, channel: grpc.Channel) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    _, _, answer = call(channel, REFLECTION, request, secured.credentials.token("anybody"))
    assert isinstance(answer, reflection_pb2.ServerReflectionResponse)
    services = [service.name for service in answer.list_services_response.service]
    offered = {f"{service}/{method.name}" for service in services for method in methods_of(service)}
    assert offered == set(METHODS)


@pytest.mark.parametrize("path", [path for path, m in METHODS.items() if m.needs is not Needs.NOTHING])
def test_nobody_calls_without_an_identity(secured: Secured, channel: grpc.Channel, path: str) -> None:
    method = METHODS[path]
    code, message, _ = call(channel, path, method.request)
    assert (code, "there is no bearer token" in message) == (StatusCode.UNAUTHENTICATED, True), message
    for said, token in bad_tokens(secured.credentials, with_right(Right.ADMINISTER)).items():
        code, message, answer = call(channel, path, method.request, token)
        assert (code, answer) == (StatusCode.UNAUTHENTICATED, None), (said, message)
        assert said in message
        assert not secured.shown(message)


@pytest.mark.parametrize("path", [path for path, m in METHODS.items() if isinstance(m.needs, Right)])
def test_the_right_for_the_instance_is_needed_and_enough(
    secured: Secured, channel: grpc.Channel, path: str
) -> None:
    method = METHODS[path]
    right = method.needs
    assert isinstance(right, Right)
    for subject in (without_right(right), ADMIN_ELSEWHERE, "nobody-in-particular"):
        token = secured.credentials.token(subject)
        code, message, answer = call(channel, path, method.request, token)
        assert (code, answer) == (StatusCode.PERMISSION_DENIED, None), subject
        assert f"{subject!r} (issuer corp): the right {right.value!r} in instance 'main'" in message
    # The name alone is worth nothing with another issuer.
    namesake = secured.credentials.cluster.token(
        iss="https://kubernetes.example.org",
        sub=with_right(right),
        **{"kubernetes.io": {"namespace": "x", "serviceaccount": {"name": "y"}}},
    )
    assert (call(channel, path, method.request, namesake))[0] is StatusCode.PERMISSION_DENIED
    for allowed in (with_right(right), with_right(Right.ADMINISTER)):
        code, message, _ = call(channel, path, method.request, secured.credentials.token(allowed))
        assert code is method.passes, (allowed, message)


@pytest.mark.parametrize("path", [path for path, m in METHODS.items() if isinstance(m.needs, Needs)])
def test_what_needs_no_right_tells_nothing_of_anybody(
    secured: Secured, channel: grpc.Channel, path: str
) -> None:
    method = METHODS[path]
    token = None if method.needs is Needs.NOTHING else secured.credentials.token("nobody-in-particular")
    code, message, _ = call(channel, path, method.request, token)
    assert code is method.passes, message


def test_unknown_instances_are_told_to_nobody_without_a_right_there(
    secured: Secured, channel: grpc.Channel
) -> None:
    request = reapi.GetCapabilitiesRequest(instance_name="no-such-instance")
    token = secured.credentials.token(with_right(Right.ADMINISTER))
    code, message, _ = call(channel, CAPABILITIES, request, token)
    assert code is StatusCode.PERMISSION_DENIED
    assert "known instances" not in message


def test_neither_the_log_nor_the_metrics_show_a_token_or_a_secret(
    secured: Secured, channel: grpc.Channel
) -> None:
    """The server logs all that it can: its level is debug."""
    request = METHODS[CAPABILITIES].request
    subject = with_right(Right.CACHE_READ)
    for token in (*bad_tokens(secured.credentials, subject).values(), secured.credentials.token("nobody")):
        assert (call(channel, CAPABILITIES, request, token))[2] is None
    good = secured.credentials.token(subject)
    assert (call(channel, CAPABILITIES, request, good))[0] is StatusCode.OK
    assert "denied: " in secured.server.log
    assert secured.shown(f"log of a proof: Bearer {good}")
    assert secured.shown(secured.server.log) == []
    assert secured.shown(secured.server.metrics_text()) == []


def test_an_unencrypted_connection_gets_nowhere(secured: Secured) -> None:
    with grpc.insecure_channel(secured.server.endpoint) as plain:
        code, _, _ = call(plain, HEALTH, METHODS[HEALTH].request)
        assert code is StatusCode.UNAVAILABLE


# --- certificates


@pytest.fixture
def certified(start_server: StartServer, tmp_path: Path) -> tuple[Server, Credentials]:
    """A server that knows callers by their certificates, and nobody else."""
    credentials = Credentials(tmp_path / "credentials")
    (tmp_path / "clients.crt").write_bytes(credentials.authority.pem)
    policy = [
        {"identities": [{"subject": "spiffe://example.org/ns/builds/sa/bot"}], "rights": ["run-bots"]},
        {"identities": [{"group": "developers"}], "instances": ["main"], "rights": ["execute"]},
    ]
    server = start_server(
        instances=("main", "other"),
        tls={**credentials.tls, "client_ca_file": str(tmp_path / "clients.crt")},
        auth={"mtls": {}, "policy": policy},
    )
    return server, credentials


def test_certificates_are_identities_for_every_method(certified: tuple[Server, Credentials]) -> None:
    server, credentials = certified
    with credentials.plain_channel(server.endpoint) as nobody:
        assert call(nobody, HEALTH, METHODS[HEALTH].request)[0] is StatusCode.UNAVAILABLE
    eve = credentials.authority.client("eve", organizations=("visitors",))
    with credentials.plain_channel(server.endpoint, eve) as channel:
        for path, method in METHODS.items():
            code, message, _ = call(channel, path, method.request)
            if isinstance(method.needs, Right):
                assert code is StatusCode.PERMISSION_DENIED, path
                assert f"'eve' (issuer mtls): the right {method.needs.value!r} in instance" in message
            else:
                assert code is method.passes, (path, message)
    ann = credentials.authority.client("ann", organizations=("developers",))
    bot = credentials.authority.client(uris=("spiffe://example.org/ns/builds/sa/bot",))
    for pair, right in ((ann, Right.EXECUTE), (bot, Right.RUN_BOTS)):
        with credentials.plain_channel(server.endpoint, pair) as channel:
            for path, method in METHODS.items():
                code, message, _ = call(channel, path, method.request)
                allowed = isinstance(method.needs, Needs) or method.needs in INCLUDES[right]
                assert code is (method.passes if allowed else StatusCode.PERMISSION_DENIED), (path, message)
