"""The Fleet service on a port of its own: for callers with a token, where all others need a certificate."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import GetCapabilitiesRequest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import CapabilitiesStub
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import (
    DrainRequest,
    FleetState,
    GetStateRequest,
    Mark,
    WatchRequest,
)
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2_grpc import FleetStub

from tests.credentials.certificates import Authority
from tests.credentials.tokens import service_account
from tests.farm.clients import WITHIN
from tests.farm.ports import ReservedPort
from tests.farm.waiting import eventually_sync
from tests.integration.server.conftest import StartServer
from tests.integration.server.secured import CLUSTER, Credentials
from tests.integration.server.server_process import Server

AUDIENCE = "internal"
OPERATOR = {"issuer": "cluster", "service_account": "system/operator"}


class Farm:
    """A server whose callers need a certificate, and its port for the operator."""

    def __init__(
        self, server: Server, credentials: Credentials, address: str, settings: dict[str, Any]
    ) -> None:
        self.server = server
        self.address = address
        self._credentials = credentials
        self._settings = settings

    def token(self, account: str = "operator", **claims: Any) -> str:
        """Of a service account in the namespace `system`."""
        claims = {**service_account("a-pod", "system", account), "aud": [AUDIENCE], **claims}
        return self._credentials.cluster.token(iss=CLUSTER, **claims)

    def channel(self, address: str = "") -> grpc.Channel:
        """Without a certificate."""
        return self._credentials.plain_channel(address or self.address)

    def state(self, token: str | None, address: str = "") -> FleetState:
        """What the Fleet service tells the bearer of a token."""
        metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        with self.channel(address) as channel:
            state: FleetState = FleetStub(channel).GetState(
                GetStateRequest(), timeout=WITHIN, metadata=metadata
            )
            return state

    def grant(self, *rights: str) -> None:
        """From now on the operator has these rights."""
        auth = {**self._settings["auth"], "policy": [{"identities": [OPERATOR], "rights": list(rights)}]}
        self.server.write(fleet={**self._settings, "auth": auth})


def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    """Status and words of a call that fails."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code(), raised.value.details() or ""


@pytest.fixture
def farm(start_server: StartServer, tmp_path: Path) -> Iterator[Farm]:
    """One that has no `auth` for everybody else: a certificate is enough."""
    credentials, port = Credentials(tmp_path / "credentials"), ReservedPort()
    (tmp_path / "clients.crt").write_bytes(Authority("clients").pem)
    cluster = credentials.settings([])["auth"]["jwt"][1]
    policy = [{"identities": [OPERATOR], "rights": ["administer"]}]
    fleet = {
        "listen": port.address,
        "auth": {"jwt": [{**cluster, "audiences": [AUDIENCE]}], "policy": policy},
    }
    try:
        server = start_server(
            tls={**credentials.tls, "client_ca_file": str(tmp_path / "clients.crt")},
            fleet=fleet,
            reload={"interval": "200ms"},
        )
        yield Farm(server, credentials, port.address, fleet)
    finally:
        port.close()


def test_a_token_is_enough_there_and_only_there(farm: Farm) -> None:
    eventually_sync(lambda: bool(farm.state(farm.token()).replicas), 20, farm.server.describe)
    code, _ = refusal(lambda: farm.state(farm.token(), farm.server.endpoint))
    assert code is grpc.StatusCode.UNAVAILABLE  # no certificate, no connection


def test_nobody_else_is_let_in(farm: Farm) -> None:
    assert refusal(lambda: farm.state(None))[0] is grpc.StatusCode.UNAUTHENTICATED
    code, words = refusal(lambda: farm.state(farm.token("stranger")))
    assert code is grpc.StatusCode.PERMISSION_DENIED and "administer" in words
    code, words = refusal(lambda: farm.state(farm.token(aud=["builds"])))
    assert code is grpc.StatusCode.UNAUTHENTICATED and "audience" in words


def test_no_other_service_is_there(farm: Farm) -> None:
    metadata = (("authorization", f"Bearer {farm.token()}"),)
    with farm.channel() as channel:
        ask = CapabilitiesStub(channel).GetCapabilities
        code, _ = refusal(lambda: ask(GetCapabilitiesRequest(), timeout=WITHIN, metadata=metadata))
    assert code is grpc.StatusCode.UNIMPLEMENTED


def test_its_policy_changes_without_a_restart(farm: Farm) -> None:
    assert farm.state(farm.token()) is not None
    farm.grant("execute")

    def denied() -> bool:
        try:
            farm.state(farm.token())
        except grpc.RpcError as error:
            return bool(error.code() is grpc.StatusCode.PERMISSION_DENIED)
        return False

    eventually_sync(denied, 20, farm.server.describe)
    farm.grant("administer")
    eventually_sync(lambda: not denied(), 20, farm.server.describe)


def test_the_farm_is_watched_and_steered_there_as_long_as_that_is_granted(farm: Farm) -> None:
    metadata = (("authorization", f"Bearer {farm.token()}"),)
    drain = DrainRequest(mode=DrainRequest.WHEN_IDLE, bot_ids=["a bot"])
    with farm.channel() as channel:
        stub = FleetStub(channel)
        watching: Any = stub.Watch(WatchRequest(), timeout=60, metadata=metadata)
        assert list(next(watching).marks) == []
        stub.Drain(drain, timeout=WITHIN, metadata=metadata)
        assert [mark.bot_id for mark in marked(watching)] == ["a bot"]
        farm.grant("execute")
        code, words = refusal(lambda: list(watching))
        assert code is grpc.StatusCode.PERMISSION_DENIED and "administer" in words
        code, _ = refusal(lambda: stub.Drain(drain, timeout=WITHIN, metadata=metadata))
        assert code is grpc.StatusCode.PERMISSION_DENIED


def marked(states: Iterator[FleetState]) -> list[Mark]:
    """The marks, once there are any."""
    return next(list(state.marks) for state in states if state.marks)


def test_it_stops_with_the_server(farm: Farm) -> None:
    metadata = (("authorization", f"Bearer {farm.token()}"),)
    with farm.channel() as channel:
        watching: Any = FleetStub(channel).Watch(WatchRequest(), timeout=60, metadata=metadata)
        assert next(watching) is not None
        assert farm.server.terminate() == 0
        assert refusal(lambda: list(watching))[0] is grpc.StatusCode.UNAVAILABLE
    assert "some work did not end" not in farm.server.log
