"""Whether others have the ports that a server is to bind: to be told before a database is started for it."""

import errno
import socket
from contextlib import closing

from buildgrid_scheduler.config import Config
from buildgrid_scheduler.server.grpc_server import StartError, not_bound


def refuse_taken_ports(config: Config) -> None:
    """Raises StartError for one that is in use. Whatever else is wrong is found when it is bound."""
    if _is_taken(config.listen):
        raise StartError(not_bound(config.listen))
    if config.fleet is not None and _is_taken(config.fleet.listen):
        raise StartError(f"fleet.{not_bound(config.fleet.listen, 'choose another with fleet.listen')}")


def _is_taken(address: str) -> bool:
    """Whether somebody listens at all that HOST:PORT stands for: gRPC is content with one of them."""
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError:
        return False
    return bool(found) and all(_in_use(family, sockaddr) for family, _, _, _, sockaddr in found)


def _in_use(family: socket.AddressFamily, sockaddr: tuple[object, ...]) -> bool:
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC binds
        if family is socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            probe.bind(sockaddr)
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False
