"""Two bots with one bot_id: how a bot notices, and which of them gives up. Pure; seconds are parameters.

A server has one live session per bot_id. Each of the two opens its own anew when the other has ended it, and
what they run is thrown away each time. That has to come to an end by itself, with one of them left.
"""

from dataclasses import dataclass

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

# What the scheduler says (google.rpc.ErrorInfo in the trailer of the call that failed).
REASON, DOMAIN = "BOT_ID_TAKEN_OVER", "buildgrid-kubernetes"
_STATUS_DETAILS = "grpc-status-details-bin"

# A bot gives up at the third session in a row that was taken over this soon, in seconds, after it was opened.
MOST = 3
SOON = 60.0


@dataclass(frozen=True)
class Takeover:
    """Another session of this bot's bot_id took its place."""

    bot_id: str
    opened_from: str
    """the other bot's address, as the server saw it; empty if it does not know"""

    def __str__(self) -> str:
        """What is wrong, and the remedy."""
        where = f" (from {self.opened_from})" if self.opened_from else ""
        return f"another bot uses --bot-id {self.bot_id}{where}; give each bot one of its own"


def takeover_of(error: grpc.aio.AioRpcError) -> Takeover | None:
    """The takeover that a failed call tells of, if that is why it failed."""
    for key, value in error.trailing_metadata() or ():
        if key == _STATUS_DETAILS and isinstance(value, bytes):
            for detail in Status.FromString(value).details:
                info = ErrorInfo()
                if detail.Unpack(info) and (info.reason, info.domain) == (REASON, DOMAIN):
                    return Takeover(info.metadata["bot_id"], info.metadata["opened_from"])
    return None


class Takeovers:
    """Those since this bot last had a session for itself.

    Never do all of the bots give up: only who has just been thrown out does, and whoever threw it out stays.
    A bot whose session had lasted is not counted for losing that one, so that it outlasts a newcomer.
    """

    def __init__(self) -> None:
        self._in_a_row = 0

    def happened(self, lasted: float) -> bool:
        """The session was taken over, `lasted` seconds after it was opened. Whether to give up."""
        self._in_a_row = self._in_a_row + 1 if lasted < SOON else 0
        return self._in_a_row >= MOST
