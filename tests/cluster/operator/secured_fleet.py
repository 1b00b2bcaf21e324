"""The Fleet service, played behind TLS, for those with the token that the configuration asks for."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import grpc
import jwt
import yaml
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import CONFIG_MAP, SCHEDULER
from buildgrid_operator.desired.auth import JWKS_KEY
from buildgrid_operator.desired.config import FILE_NAME
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import FleetState, GetStateRequest
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2_grpc import add_FleetServicer_to_server

from tests.cluster.operator.fleet import PlayedFleet
from tests.credentials.certificates import Pair

Json = dict[str, Any]


class SecuredFleet(PlayedFleet):
    """Of Schedulers that ask the operator for a token; which one is meant is told by the token's audience."""

    def __init__(self, client: Client, namespace: str, pair: Pair) -> None:
        super().__init__(client, namespace)
        self._api = client
        self._home = namespace
        self.let_in: list[str] = []
        """names of Schedulers, one for each call that was let in"""
        self._secure = grpc.server(ThreadPoolExecutor(4))
        add_FleetServicer_to_server(self, self._secure)
        credentials = grpc.ssl_server_credentials([(pair.key, pair.certificate)])
        self._secure_port = self._secure.add_secure_port("127.0.0.1:0", credentials)
        self._secure.start()

    @property
    def endpoint(self) -> str:
        """For --scheduler-endpoint."""
        return f"grpcs://127.0.0.1:{self._secure_port}"

    def close(self) -> None:
        """Nobody answers any more."""
        self._secure.stop(None).wait()
        super().close()

    def GetState(self, request: GetStateRequest, context: grpc.ServicerContext) -> FleetState:  # noqa: N802
        """As the real one."""
        header = dict(context.invocation_metadata()).get("authorization", "")
        try:
            self.let_in.append(self._admit(str(header).removeprefix("Bearer ")))
        except (jwt.PyJWTError, PermissionError, LookupError) as error:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, f"{type(error).__name__}: {error}")
        return super().GetState(request, context)

    def _admit(self, token: str) -> str:
        """The name of the Scheduler. Raises what is caught above."""
        unverified = jwt.decode(token, options={"verify_signature": False})
        (audience,) = unverified["aud"]
        uid, _, domain = audience.partition(".")
        (name,) = [
            each["metadata"]["name"]
            for each in self._api.list(SCHEDULER, self._home).items
            if each["metadata"]["uid"] == uid
        ]
        if domain != "scheduler.buildgrid.build":
            raise PermissionError(audience)
        config: Json = yaml.safe_load(self._data(f"{name}-config")[FILE_NAME])
        auth = config["fleet"]["auth"] if "fleet" in config else config["auth"]
        (issuer,) = [each for each in auth["jwt"] if each["name"] == "kubernetes"]
        keys = jwt.PyJWKSet.from_dict(json.loads(self._data(f"{name}-jwks")[JWKS_KEY]))
        key = keys[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(
            token,
            key.key,
            algorithms=["RS256", "ES256"],
            audience=issuer["audiences"],
            issuer=issuer["issuer"],
        )
        found = claims["kubernetes.io"]
        account = f"{found['namespace']}/{found['serviceaccount']['name']}"
        granted = [
            rule["rights"]
            for rule in auth["policy"]
            for identity in rule["identities"]
            if identity == {"issuer": "kubernetes", "service_account": account}
        ]
        if granted != [["administer"]]:
            raise PermissionError(f"{account} has {granted}")
        return str(name)

    def _data(self, config_map: str) -> dict[str, str]:
        found: dict[str, str] = self._api.get(CONFIG_MAP, self._home, config_map)["data"]
        return found


@contextmanager
def secured_fleet(client: Client, namespace: str, pair: Pair) -> Iterator[SecuredFleet]:
    """One that is closed after use."""
    with closing(SecuredFleet(client, namespace, pair)) as fleet:
        yield fleet
