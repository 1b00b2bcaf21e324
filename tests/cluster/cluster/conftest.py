"""The operator's client against the real API server, and a server in between that fails when told to."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from buildgrid_operator.cluster.client import Call, Client
from buildgrid_operator.cluster.connection import connect
from kubernetes import client as kubernetes

from tests.cluster.cluster.faults import FaultyServer
from tests.cluster.conftest import Kubectl

Calls = list[Call]


@pytest.fixture(scope="session")
def api() -> Iterator[kubernetes.ApiClient]:
    """A connection as KUBECONFIG says."""
    with closing(connect(user_agent="buildgrid-operator/test")) as connection:
        yield connection


@pytest.fixture
def calls() -> Calls:
    """Every call that `client` makes."""
    return []


@pytest.fixture
def client(api: kubernetes.ApiClient, calls: Calls) -> Client:
    """The operator's client, with all rights."""
    return Client(api, observe=calls.append)


@pytest.fixture
def faults(api: kubernetes.ApiClient) -> Iterator[FaultyServer]:
    """A server in front of the API server."""
    with closing(FaultyServer(api)) as server:
        yield server


@pytest.fixture
def faulty(faults: FaultyServer, calls: Calls) -> Iterator[Client]:
    """The operator's client, whose calls go through `faults`."""
    with closing(faults.connection()) as connection:
        yield Client(connection, observe=calls.append)


@pytest.fixture
def client_as(
    kubectl: Kubectl, namespace: str, api: kubernetes.ApiClient, tmp_path: Path
) -> Iterator[Callable[[str], Client]]:
    """The client of a new service account that has the rules of a Role (flow YAML), and nothing else."""
    connections: list[kubernetes.ApiClient] = []

    def make(rules: str) -> Client:
        name = f"limited-{len(connections)}-{tmp_path.name[-20:].lower().strip('-_').replace('_', '-')}"
        manifest = f"""
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: {name}}}
rules: {rules}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: {name}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {name}}}
subjects: [{{kind: ServiceAccount, name: {name}, namespace: {namespace}}}]
"""
        kubectl("apply", "-n", namespace, "-f", "-", stdin=manifest, check=True)
        token: subprocess.CompletedProcess[str] = kubectl(
            "create", "token", "-n", namespace, name, check=True
        )
        settings = kubernetes.Configuration()
        settings.host = api.configuration.host
        settings.ssl_ca_cert = api.configuration.ssl_ca_cert
        settings.verify_ssl = api.configuration.verify_ssl
        settings.retries = False
        settings.api_key["BearerToken"] = f"Bearer {token.stdout.strip()}"
        connections.append(kubernetes.ApiClient(settings))
        return Client(connections[-1])

    yield make
    for connection in connections:
        connection.close()  # type: ignore[no-untyped-call]
