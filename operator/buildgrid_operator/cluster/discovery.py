"""What the API server tells about itself: who issues its ServiceAccounts' tokens, and with which keys."""

import json
from typing import Any

from kubernetes import client
from urllib3 import exceptions as http

from buildgrid_operator.cluster.answers import error_of
from buildgrid_operator.cluster.errors import ClusterError, Unreachable
from buildgrid_operator.desired.inputs import ClusterTokens

_TIMEOUT = 10.0


def cluster_tokens(api: client.ApiClient) -> ClusterTokens:
    """Issuer and public keys (OpenID Connect discovery). Raises ClusterError."""
    found = json.loads(_get(api, "/.well-known/openid-configuration"))
    return ClusterTokens(issuer=str(found["issuer"]), jwks=_get(api, "/openid/v1/jwks"))


def _get(api: client.ApiClient, path: str) -> str:
    # The keys are of a media type of their own, which this API server insists on.
    headers = {"Accept": "application/json, application/jwk-set+json"}
    call: Any = api.param_serialize("GET", path, header_params=headers, auth_settings=["BearerToken"])
    try:
        answer = api.call_api(*call, _request_timeout=(_TIMEOUT, _TIMEOUT))  # type: ignore[misc]
        body: bytes = answer.read()  # type: ignore[no-untyped-call]
    except (http.HTTPError, OSError) as error:
        raise Unreachable(f"get {path}: the API server cannot be reached ({type(error).__name__})") from error
    if answer.status != 200:
        raise error_of(answer.status, answer.headers, body, f"get {path}")
    return body.decode()


def cluster_tokens_or_none(api: client.ApiClient) -> ClusterTokens | None:
    """None where the API server does not tell: then only Schedulers without auth can be made."""
    try:
        return cluster_tokens(api)
    except ClusterError as error:
        if error.transient:
            raise
        return None
    except (ValueError, KeyError):
        return None
