"""The client of the Fleet service against a server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from buildgrid_operator.api.auth import CaConfigMapKeyRef
from buildgrid_operator.cluster.authorities import Authorities
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import ClusterError, NotFound, Unreachable
from buildgrid_operator.cluster.fleet import FleetClient, FleetRefused, FleetUnreachable
from buildgrid_operator.cluster.fleet_state import FleetState
from buildgrid_operator.cluster.kinds import CONFIG_MAP, Kind
from buildgrid_operator.desired.endpoints import FleetAddress
from buildgrid_protos.buildgrid.fleet.v1 import fleet_pb2
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2_grpc import add_FleetServicer_to_server

from tests.credentials.certificates import SERVER_NAME, Authority
from tests.farm.fleet_servicer import StateOnlyFleet

OLDEST = datetime(2026, 1, 2, 3, tzinfo=UTC)


class Played(StateOnlyFleet):
    """Answers, or fails."""

    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = None
        self.tokens: list[str] = []

    def GetState(  # noqa: N802 - the protocol's name
        self, request: fleet_pb2.GetStateRequest, context: grpc.ServicerContext
    ) -> fleet_pb2.FleetState:
        self.tokens += [str(value) for key, value in context.invocation_metadata() if key == "authorization"]
        if self.code is not None:
            context.abort(self.code, "words of the server")
        state = fleet_pb2.FleetState()
        state.replicas.add(
            id="1", host="pod", version="0.1", config_hash="aa", refused_config_hash="bb",
            refused_config_error="no", config_fields_at_restart=["listen"],
        )  # fmt: skip
        wide = state.requirements.add(instance_name="", requirement_hash="h", queued=2, executing=1)
        wide.oldest_queued_time.FromDatetime(OLDEST)
        for key, value in (("b", "2"), ("a", "y"), ("a", "x")):
            wide.properties.add(key=key, value=value)
        state.requirements.add(instance_name="", requirement_hash="i", executing=4)
        for instance, status, count in (("", 1, 2), ("other", 1, 1), ("", 4, 1), ("", 99, 1)):
            state.bots.add(instance_name=instance, status=cast(Any, status), count=count)
        return state


@pytest.fixture
def played() -> Iterator[tuple[Played, str]]:
    """The service, and its endpoint."""
    service = Played()
    server = grpc.server(ThreadPoolExecutor(2))
    add_FleetServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, f"grpc://127.0.0.1:{port}"
    server.stop(None).wait()


def _at(endpoint: str, **more: Any) -> FleetAddress:
    return FleetAddress("farm", "main", endpoint, **more)


def _ask(endpoint: str, ca_file: Path | None = None) -> FleetState:
    return FleetClient(ca_file=ca_file)(_at(endpoint))


class Tokens:
    """The operator's, numbered."""

    def __init__(self) -> None:
        self.given = 0
        self.forgotten: list[str] = []

    def __call__(self, audience: str) -> str:
        self.given += 1
        return f"{audience}-{self.given}"

    def forget(self, audience: str) -> None:
        self.forgotten.append(audience)


def test_an_answer_has_all_that_is_told(played: tuple[Played, str]) -> None:
    state = _ask(played[1])
    (replica,) = state.replicas
    assert (replica.host, replica.config_hash, replica.refused_hash) == ("pod", "aa", "bb")
    assert replica.fields_at_restart == ("listen",)
    assert state.requirements[0].properties == {"a": ("x", "y"), "b": ("2",)}
    assert (state.queued, state.executing, state.oldest_queued) == (2, 5, OLDEST)
    assert state.bots == {"OK": 3, "BOT_TERMINATING": 1, "99": 1}
    assert state.connected_bots == 5


def test_a_token_is_shown_to_those_who_ask_for_one(played: tuple[Played, str]) -> None:
    client = FleetClient(tokens=Tokens())
    client(_at(played[1]))
    assert played[0].tokens == []
    client(_at(played[1], audience="a"))
    client(_at(played[1], audience="b"))
    assert played[0].tokens == ["Bearer a-1", "Bearer b-2"]


def test_a_token_that_is_refused_is_not_used_again(played: tuple[Played, str]) -> None:
    tokens = Tokens()
    played[0].code = grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(FleetRefused):
        FleetClient(tokens=tokens)(_at(played[1], audience="a"))
    assert tokens.forgotten == ["a"]


def test_a_token_that_goes_over_the_network_as_plain_text_is_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = FleetClient(tokens=Tokens(), deadline=timedelta(milliseconds=50))
    for endpoint in ("grpc://one.invalid:1", "grpc://two.invalid:1", "grpc://one.invalid:1"):
        with pytest.raises(FleetUnreachable):
            client(_at(endpoint, audience="a"))
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"the operator's token, which may administer, goes to grpc://{host}.invalid:1 as plain text: unless "
        "the network itself encrypts, set spec.tls of the Scheduler farm/main"
        for host in ("one", "two")
    ]


def test_of_an_endpoint_that_the_operator_was_given_it_is_warned_with_the_flag(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = FleetClient(tokens=Tokens(), endpoint="grpc://x.invalid:1", deadline=timedelta(milliseconds=50))
    with pytest.raises(FleetUnreachable):
        client(_at("grpcs://main.farm:1", audience="a"))
    assert "and grpcs:// in --scheduler-endpoint" in caplog.text


def test_nothing_is_warned_of_where_nobody_can_read_a_token(
    played: tuple[Played, str], caplog: pytest.LogCaptureFixture
) -> None:
    FleetClient(tokens=Tokens())(_at(played[1], audience="a"))
    client = FleetClient(tokens=Tokens(), deadline=timedelta(milliseconds=50))
    for address in (_at("grpcs://x.invalid:1", audience="a"), _at("grpc://x.invalid:1")):
        with pytest.raises(FleetUnreachable):
            client(address)
    assert "plain text" not in caplog.text


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NotFound("there is no ServiceAccount"), FleetRefused),
        (Unreachable("no API server"), FleetUnreachable),
    ],
)
def test_a_token_that_cannot_be_had_is_told(
    error: ClusterError, kind: type[Exception], played: tuple[Played, str]
) -> None:
    class Without(Tokens):
        def __call__(self, audience: str) -> str:
            raise error

    with pytest.raises(kind, match=str(error)):
        FleetClient(tokens=Without())(_at(played[1], audience="a"))


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (grpc.StatusCode.UNAVAILABLE, FleetUnreachable, "words of the server"),
        (grpc.StatusCode.PERMISSION_DENIED, FleetRefused, "no right to administer"),
        (grpc.StatusCode.UNAUTHENTICATED, FleetRefused, "token is not accepted"),
        (grpc.StatusCode.UNIMPLEMENTED, FleetRefused, "newer spec.image"),
        (grpc.StatusCode.INTERNAL, FleetRefused, "words of the server"),
    ],
)
def test_errors_say_what_they_are(
    played: tuple[Played, str], code: grpc.StatusCode, error: type[Exception], words: str
) -> None:
    played[0].code = code
    with pytest.raises(error, match=words) as raised:
        _ask(played[1])
    assert played[1] in str(raised.value)


def test_nobody_at_the_address_is_unreachable(played: tuple[Played, str]) -> None:
    with pytest.raises(FleetUnreachable):
        FleetClient(deadline=timedelta(seconds=2))(_at("grpc://127.0.0.1:1"))


def test_another_endpoint_has_the_name_in_it(played: tuple[Played, str]) -> None:
    port = played[1].rpartition(":")[2]
    client = FleetClient(endpoint="grpc://127.0.0.1:{name}")
    assert client(replace(_at("grpc://nowhere.invalid:1"), name=port)).queued == 2


def test_a_scheme_that_is_not_known_is_refused() -> None:
    with pytest.raises(FleetRefused, match="must begin with grpc://"):
        _ask("http://x:1")


def test_an_authority_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(FleetRefused, match="cannot be read"):
        _ask("grpcs://127.0.0.1:1", ca_file=tmp_path / "none.pem")


# TLS


class Shelf:
    """The ConfigMap farm/ca, as the client for the API server has it."""

    def __init__(self, content: bytes | None) -> None:
        self.content = content
        self.reads = 0

    def find(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        assert (kind, namespace, name) == (CONFIG_MAP, "farm", "ca")
        self.reads += 1
        return None if self.content is None else {"data": {"ca.crt": self.content.decode()}}


def _authorities(shelf: Shelf) -> Authorities:
    return Authorities(cast(Client, shelf))


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Of the server's certificate."""
    return Authority()


@pytest.fixture
def encrypted(authority: Authority) -> Iterator[str]:
    """The endpoint of the service behind TLS."""
    pair = authority.server()
    server = grpc.server(ThreadPoolExecutor(2))
    add_FleetServicer_to_server(Played(), server)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(pair.key, pair.certificate)]))
    server.start()
    yield f"grpcs://127.0.0.1:{port}"
    server.stop(None).wait()


AUTHORITY = CaConfigMapKeyRef(name="ca")


def test_the_scheduler_says_whom_to_believe(authority: Authority, encrypted: str) -> None:
    shelf = Shelf(authority.pem)
    client = FleetClient(authorities=_authorities(shelf))
    named = _at(encrypted, server_name=SERVER_NAME, authority=AUTHORITY)
    assert client(named).queued == client(named).queued == 2
    assert shelf.reads == 1
    with pytest.raises(FleetUnreachable, match=r"spec\.tls\.caConfigMapRef"):
        client(_at(encrypted, server_name=SERVER_NAME))


def test_the_operator_may_know_it_for_all(authority: Authority, encrypted: str, tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_bytes(authority.pem)
    assert FleetClient(ca_file=file)(_at(encrypted, server_name=SERVER_NAME)).queued == 2


def test_another_authority_is_not_believed_and_read_again(authority: Authority, encrypted: str) -> None:
    shelf = Shelf(Authority("another").pem)
    client = FleetClient(authorities=_authorities(shelf))
    named = _at(encrypted, server_name=SERVER_NAME, authority=AUTHORITY)
    with pytest.raises(FleetUnreachable, match="signed by an authority that the operator believes"):
        client(named)
    shelf.content = authority.pem
    assert client(named).queued == 2


def test_a_certificate_for_another_name_is_not_believed(authority: Authority, encrypted: str) -> None:
    client = FleetClient(authorities=_authorities(Shelf(authority.pem)))
    with pytest.raises(FleetUnreachable, match=r"must be for other\.example\.org \(spec\.tls\.serverName\)"):
        client(_at(encrypted, server_name="other.example.org", authority=AUTHORITY))


@pytest.mark.parametrize(
    ("content", "words"), [(None, "there is no ConfigMap ca"), (b" ", "no certificates under ca.crt")]
)
def test_an_authority_that_is_not_there_is_named(content: bytes | None, words: str, encrypted: str) -> None:
    client = FleetClient(authorities=_authorities(Shelf(content)))
    with pytest.raises(FleetRefused, match=words):
        client(_at(encrypted, authority=AUTHORITY))


def test_an_authority_that_nobody_can_read_is_refused_not_replaced(encrypted: str, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(Authority().pem)
    with pytest.raises(FleetRefused, match=r"spec\.tls\.caConfigMapRef names the ConfigMap ca"):
        FleetClient(ca_file=tmp_path / "ca.crt")(_at(encrypted, authority=AUTHORITY))
