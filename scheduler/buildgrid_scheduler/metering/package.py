"""The client of the metering service, which is an optional dependency: the one place that imports it."""

try:
    from buildgrid_metering.client import AuthTokenConfig, AuthTokenLoader, AuthTokenMode
    from buildgrid_metering.client import SyncMeteringServiceClient as SyncMeteringServiceClient
    from buildgrid_metering.models.dataclasses import ComputingUsage as ComputingUsage
    from buildgrid_metering.models.dataclasses import Identity as Identity
    from buildgrid_metering.models.dataclasses import RPCUsage as RPCUsage
    from buildgrid_metering.models.dataclasses import Usage as Usage
except ImportError as error:
    raise ImportError(
        "metering needs the package buildgrid-metering-client: pip install 'buildgrid-kubernetes[metering]'"
    ) from error

from pathlib import Path

from buildgrid_client.credentials import BearerToken


class FileTokenLoader(AuthTokenLoader):
    """A token from a file that is read again when it changes; the package's own keeps it for an hour.

    Raises OSError for a file that cannot be read, ValueError for one that is empty. Later on the last token
    stays in force then.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(AuthTokenConfig(AuthTokenMode.FILEPATH, str(path)))
        self._token = BearerToken(path)
        self._token.metadata()

    def get_token(self) -> str:
        """The token as it is now."""
        ((_, value),) = self._token.metadata()
        return value.removeprefix("Bearer ")


def service_client(url: str, token_file: Path | None, timeout: float) -> SyncMeteringServiceClient:
    """A client of the service at `url` (http or https); a request takes at most `timeout` seconds.

    Nothing is tried twice: usage is sent in the background, and nobody waits for a second opinion.
    """
    none = AuthTokenLoader(AuthTokenConfig(AuthTokenMode.NONE, ""))
    loader = none if token_file is None else FileTokenLoader(token_file)
    return SyncMeteringServiceClient(url, loader, request_timeout=timeout)
