"""The Fleet service on a port of its own, where the configuration has `fleet`.

Whoever looks after the farm from within its network, such as a Kubernetes operator, has a token and no
certificate. gRPC for Python asks everybody who comes to a port for a certificate, or nobody. So where
`tls.client_ca_file` locks such callers out of `listen`, they come to this port: there is nothing on it but
this one service, and it lets in only whom its own policy names.
"""

import asyncio
import logging

import grpc

from buildgrid_scheduler.config import Config
from buildgrid_scheduler.config.auth import FleetConfig
from buildgrid_scheduler.server.auth import build_auth, build_policy, server_credentials
from buildgrid_scheduler.server.grpc_server import bind, server_options
from buildgrid_scheduler.server.messages import minding_messages
from buildgrid_scheduler.server.metrics.calls import CallMetrics
from buildgrid_scheduler.server.replica import Replica

log = logging.getLogger(__name__)


class FleetPort:
    """Bound when it is made. `start` and `stop` on the event loop."""

    def __init__(self, config: Config, fleet: FleetConfig, replica: Replica, calls: CallMetrics) -> None:
        """`calls` counts the calls. Raises ConfigError and StartError."""
        tls = None if config.tls is None else config.tls.model_copy(update={"client_ca_file": None})
        self._authentication = build_auth(fleet.auth, tls, "fleet.auth")
        self._server = grpc.aio.server(
            interceptors=self._authentication.interceptors, options=server_options(config)
        )
        minded = minding_messages(calls.measured(self._server), config.grpc.max_message_size)
        replica.add_fleet(minded, self._authentication.access)
        self._address = fleet.listen
        bind(self._server, fleet.listen, server_credentials(tls), "choose another with fleet.listen")

    async def start(self) -> None:
        """Serve."""
        self._authentication.start()
        await self._server.start()
        log.info("serving the Fleet service alone on %s", self._address)

    def reconfigure(self, config: Config) -> None:
        """Take up another policy."""
        if config.fleet is not None:
            self._authentication.use_policy(build_policy(config.fleet.auth))

    async def stop(self, grace: float) -> None:
        """Calls that run have `grace` seconds."""
        await self._server.stop(grace)
        await asyncio.to_thread(self._authentication.stop)
