"""How the API server is reached: from a pod by its service account, elsewhere by KUBECONFIG."""

import os
from pathlib import Path

from kubernetes import client, config

CONNECTIONS = 32
"""that are kept; more calls at a time open further ones"""


def connect(
    *, kubeconfig: Path | None = None, context: str | None = None, user_agent: str
) -> client.ApiClient:
    """Connect as the pod's service account; with `kubeconfig`, KUBECONFIG or ~/.kube/config as it says.

    The service account's token is read again every minute, and the certificate authority with each new
    connection, so that both can rotate. Each call is one attempt: who calls knows what to do again, and when.
    Raises `kubernetes.config.ConfigException` when there are no credentials.
    """
    settings = client.Configuration()
    settings.retries = False
    settings.connection_pool_maxsize = CONNECTIONS
    # A connection whose other side went away without a word is noticed.
    settings.keep_alive = True
    if kubeconfig is None and not os.environ.get("KUBECONFIG") and _in_cluster():
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    else:
        config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=None if kubeconfig is None else str(kubeconfig),
            context=context,
            client_configuration=settings,
            persist_config=False,
        )
    api = client.ApiClient(settings)
    api.user_agent = user_agent
    return api


def _in_cluster() -> bool:
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
