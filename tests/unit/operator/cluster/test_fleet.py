"""The client of the Fleet service against a server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from buildgrid_operator.cluster.fleet import FleetClient, FleetRefused, FleetState, FleetUnreachable
from buildgrid_protos.buildgrid.fleet.v1 import fleet_pb2
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2_grpc import FleetServicer, add_FleetServicer_to_server

OLDEST = datetime(2026, 1, 2, 3, tzinfo=UTC)


class Played(FleetServicer):
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


def _ask(endpoint: str, ca_file: Path | None = None) -> FleetState:
    return FleetClient(ca_file=ca_file)("farm", "main", endpoint)


def test_an_answer_has_all_that_is_told(played: tuple[Played, str]) -> None:
    state = _ask(played[1])
    (replica,) = state.replicas
    assert (replica.host, replica.config_hash, replica.refused_hash) == ("pod", "aa", "bb")
    assert replica.fields_at_restart == ("listen",)
    assert state.requirements[0].properties == {"a": ("x", "y"), "b": ("2",)}
    assert (state.queued, state.executing, state.oldest_queued) == (2, 5, OLDEST)


def test_the_token_is_read_each_time(played: tuple[Played, str], tmp_path: Path) -> None:
    file = tmp_path / "token"
    client = FleetClient(token_file=file)
    client("farm", "main", played[1])
    for token in ("first", "second\n"):
        file.write_text(token)
        client("farm", "main", played[1])
    assert played[0].tokens == ["Bearer first", "Bearer second"]


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
        FleetClient(deadline=timedelta(seconds=2))("farm", "main", "grpc://127.0.0.1:1")


def test_another_endpoint_has_the_name_in_it(played: tuple[Played, str]) -> None:
    port = played[1].rpartition(":")[2]
    client = FleetClient(endpoint="grpc://127.0.0.1:{name}")
    assert client("farm", port, "grpc://nowhere.invalid:1").queued == 2


def test_a_scheme_that_is_not_known_is_refused() -> None:
    with pytest.raises(FleetRefused, match="must begin with grpc://"):
        _ask("http://x:1")


def test_an_authority_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(FleetRefused, match="cannot be read"):
        _ask("grpcs://127.0.0.1:1", ca_file=tmp_path / "none.pem")
