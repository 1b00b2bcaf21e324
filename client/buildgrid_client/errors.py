"""What can go wrong between a client or bot and the farm, each with the gRPC status code it stands for."""

from collections.abc import Iterable

import grpc


class ClientError(Exception):
    """Base of all errors of this package. `code` is the gRPC status that tells others the same."""

    code: grpc.StatusCode = grpc.StatusCode.INTERNAL


class CasError(ClientError):
    """A blob could not be read or stored."""


class BlobsMissing(CasError):
    """Blobs are not in the CAS. `keys` are `HASH/SIZE`, sorted."""

    code = grpc.StatusCode.NOT_FOUND

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = tuple(sorted(keys))
        shown = ", ".join(self.keys[:3]) + (f" and {len(self.keys) - 3} more" if len(self.keys) > 3 else "")
        super().__init__(f"not in the CAS: {shown}")


class CasUnavailable(CasError):
    """The CAS could not be reached for longer than the outage tolerance."""

    code = grpc.StatusCode.UNAVAILABLE


class BlobCorrupt(CasError):
    """What arrived, or what is to be sent, is not what its digest says."""

    code = grpc.StatusCode.DATA_LOSS


class CasRefused(CasError):
    """The CAS answered with an error that waiting does not mend; `code` is its own."""

    def __init__(self, message: str, code: grpc.StatusCode) -> None:
        super().__init__(message)
        self.code = code
