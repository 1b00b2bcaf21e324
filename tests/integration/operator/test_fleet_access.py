"""The operator's client against real replicas with the configuration that the operator writes for them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from buildgrid_operator.cluster.authorities import Authorities
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.fleet import FleetClient, FleetError, FleetRefused, FleetUnreachable
from buildgrid_operator.cluster.fleet_state import FleetState
from buildgrid_operator.cluster.kinds import Kind
from buildgrid_operator.desired import ClusterTokens, Inputs, build
from buildgrid_operator.desired.endpoints import FleetAddress, fleet_address
from buildgrid_operator.desired.files import ROOT

from tests.credentials.certificates import SERVER_NAME, Authority
from tests.credentials.tokens import SigningKey, jwks, service_account
from tests.farm.database import Databases, drop_database
from tests.farm.ports import ReservedPort
from tests.farm.replica import Replica
from tests.farm.waiting import eventually_sync
from tests.unit.operator.desired.cases import BOTS, CORP, EVERYBODY, ISSUER, SETTINGS, inputs, scheduler

CA = {"name": "internal-ca", "key": "ca.crt"}
SERVER_TLS = {"secretName": "server-tls", "serverName": SERVER_NAME, "caConfigMapRef": CA}
CLIENT_CA = {**SERVER_TLS, "clientCaSecretRef": {"name": "client-ca"}}
OPERATOR = (SETTINGS.operator.namespace, SETTINGS.operator.service_account)
SPECS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "TLS": {"tls": SERVER_TLS},
    "tokens": {"auth": {"kubernetes": {}, "policy": BOTS}},
    "tokens of others, and TLS": {"tls": SERVER_TLS, "auth": {"jwt": [CORP], "policy": EVERYBODY}},
    "a certificate is enough": {"tls": CLIENT_CA},
    "certificates": {"tls": CLIENT_CA, "auth": {"mtls": {}, "policy": EVERYBODY}},
    "certificates and tokens": {
        "tls": CLIENT_CA,
        "auth": {"kubernetes": {}, "mtls": {}, "policy": BOTS},
    },
}
ASKS_FOR_TOKENS = [name for name in SPECS if name not in ("nothing", "TLS")]


class Tokens:
    """Those of one service account, as the API server of the cluster signs them."""

    def __init__(self, key: SigningKey, namespace: str, name: str) -> None:
        self._key = key
        self._claims = service_account("a-pod", namespace, name)

    def __call__(self, audience: str) -> str:
        return self._key.token(**{**self._claims, "iss": ISSUER, "aud": [audience]})

    def forget(self, audience: str) -> None:
        """Each is a new one."""


class Farm:
    """A replica in its pod: with the objects that it mounts in a folder, and other ports."""

    def __init__(self, folder: Path, database_url: str, key: SigningKey, spec: dict[str, Any]) -> None:
        self.key = key
        self.authority = Authority()
        self.inputs = inputs(scheduler(**spec), tokens=ClusterTokens(ISSUER, jwks(key).decode()))
        self._mount(folder, self.inputs, database_url)
        self._port = ReservedPort()
        text = build(self.inputs).config_text.replace(ROOT, str(folder))
        settings = yaml.safe_load(text)
        for ours in ("listen", "data", "monitoring", "storage"):
            settings.pop(ours)
        settings["database"]["migrate"] = True  # which the pod's init container does
        if "fleet" in settings:
            settings["fleet"]["listen"] = self._port.address
        self.replica = Replica(folder / "replica", database_url, **settings)
        self.address = fleet_address(self.inputs.scheduler, "cluster.local")

    def _mount(self, folder: Path, given: Inputs, database_url: str) -> None:
        pair = self.authority.server()
        content: dict[str, bytes] = {
            "secrets/database/url": database_url.encode(),
            "secrets/server-tls/tls.crt": pair.certificate,
            "secrets/server-tls/tls.key": pair.key,
            "secrets/client-ca/ca.crt": Authority("clients").pem,
        }
        for obj in build(given).objects:
            if obj["kind"] == "ConfigMap":
                for name, text in obj["data"].items():
                    content[f"config-maps/{obj['metadata']['name']}/{name}"] = text.encode()
        for name, data in content.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)

    def find(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        """As the API server's client finds it: the ConfigMap with the authority."""
        assert (kind.kind, namespace, name) == ("ConfigMap", "farm", "internal-ca")
        return {"data": {"ca.crt": self.authority.pem.decode()}}

    def ask(self, tokens: Tokens | None = None, **changes: Any) -> FleetState:
        """As the operator does, unless with the tokens of another."""
        ports = {50051: self.replica.endpoint, 50052: self._port.address}
        address: FleetAddress = replace(self.address, **changes)
        scheme, _, place = address.endpoint.partition("://")
        there = ports[int(place.rpartition(":")[2])]
        client = FleetClient(
            tokens=tokens or Tokens(self.key, *OPERATOR),
            authorities=Authorities(cast(Client, self)),
            endpoint=f"{scheme}://{there}",
        )
        return client(address)

    def close(self) -> None:
        self.replica.close()
        self._port.close()


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    databases = Databases()
    yield databases
    databases.close()


@pytest.fixture
def start(databases: Databases, tmp_path: Path) -> Iterator[Callable[[str], Farm]]:
    """Start a replica for one of the specs."""
    started: list[tuple[Farm, str]] = []

    def run(name: str) -> Farm:
        url = databases.create()
        farm = Farm(tmp_path, url, SigningKey("cluster-1"), SPECS[name])
        started.append((farm, url))
        farm.replica.start()
        return farm

    yield run
    for farm, url in started:
        farm.close()
        drop_database(url)


def told(farm: Farm) -> bool:
    return bool(farm.ask().replicas)


@pytest.mark.parametrize("name", SPECS)
def test_the_operator_hears_of_the_replicas(name: str, start: Callable[[str], Farm]) -> None:
    farm = start(name)
    eventually_sync(lambda: told(farm), 20, farm.replica.describe)
    if name in ASKS_FOR_TOKENS:
        for namespace, account in (("farm", "bots"), ("farm", OPERATOR[1]), (OPERATOR[0], "default")):
            with pytest.raises(FleetRefused, match="no right to administer"):
                farm.ask(Tokens(farm.key, namespace, account))
        with pytest.raises(FleetRefused, match="token is not accepted"):
            farm.ask(Tokens(SigningKey("cluster-1"), *OPERATOR))  # signed by somebody else
        with pytest.raises(FleetRefused, match="token is not accepted"):
            farm.ask(audience="another-uid.scheduler.buildgrid.build")  # what it shows to another Scheduler
        with pytest.raises(FleetRefused, match="token is not accepted"):
            farm.ask(audience=None)


@pytest.mark.parametrize("name", ["certificates", "certificates and tokens"])
def test_its_token_opens_no_other_door(name: str, start: Callable[[str], Farm]) -> None:
    farm = start(name)
    elsewhere = farm.address.endpoint.replace("50052", "50051")
    with pytest.raises(FleetUnreachable):  # the handshake fails
        farm.ask(endpoint=elsewhere)
    assert told(farm)


def test_a_certificate_that_is_not_the_schedulers_is_not_believed(start: Callable[[str], Farm]) -> None:
    farm = start("TLS")
    with pytest.raises(FleetError, match=r"spec\.tls\.serverName"):
        farm.ask(server_name="main-scheduler.farm.svc.cluster.local")
    farm.authority = Authority("another")
    with pytest.raises(FleetError, match=r"spec\.tls\.caConfigMapRef"):
        farm.ask()
