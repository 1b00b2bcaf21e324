"""A port that somebody else has is told before anything is started; what else is wrong is left to gRPC."""

import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from buildgrid_scheduler.config import Config
from buildgrid_scheduler.server.grpc_server import StartError
from buildgrid_scheduler.server.ports import refuse_taken_ports

AUTH = {
    "jwt": [{"audiences": ["a"], "jwks": {"file": "keys"}}],
    "policy": [{"identities": [{"subject": "a"}], "rights": ["administer"]}],
}


@pytest.fixture
def taken() -> Iterator[int]:
    """The number of a port on which somebody listens, of IPv4's loopback."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield int(server.getsockname()[1])


def config(**settings: Any) -> Config:
    return Config.model_validate({"monitoring": {"listen": None}, **settings})


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - nothing is bound
def test_a_port_that_is_taken_is_refused(taken: int, host: str) -> None:
    words = (
        rf"^listen: {host}:{taken} cannot be bound: it is in use, .*; choose another with --listen or listen$"
    )
    with pytest.raises(StartError, match=words):
        refuse_taken_ports(config(listen=f"{host}:{taken}"))


def test_that_of_the_fleet_service_is_named_by_its_own_field(taken: int) -> None:
    fleet = {"listen": f"127.0.0.1:{taken}", "auth": AUTH}
    with pytest.raises(
        StartError, match=r"^fleet\.listen: .* in use, .*; choose another with fleet\.listen$"
    ):
        refuse_taken_ports(config(listen="127.0.0.1:0", fleet=fleet))


@pytest.mark.parametrize("address", ["127.0.0.1:0", "nowhere.invalid:1", "192.0.2.1:1"])
def test_what_is_free_or_cannot_be_known_is_left_to_grpc(address: str) -> None:
    refuse_taken_ports(config(listen=address))


def test_a_port_whose_last_connection_has_just_ended_is_free() -> None:
    """It is kept by the kernel for a minute, for everybody but who asks for it as gRPC does."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        address = server.getsockname()
        with closing(socket.create_connection(address)) as client:
            accepted, _ = server.accept()
            accepted.close()  # who closes first has to wait
            assert client.recv(1) == b""
    refuse_taken_ports(config(listen=f"127.0.0.1:{address[1]}"))
