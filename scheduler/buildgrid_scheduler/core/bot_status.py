"""The state of health that a bot announces (RWAPI, BotStatus)."""

from enum import IntEnum


class BotStatus(IntEnum):
    """Numbers are those of the wire. Only OK is handed work."""

    UNSPECIFIED = 0
    OK = 1
    UNHEALTHY = 2
    HOST_REBOOTING = 3
    BOT_TERMINATING = 4

    @property
    def announces_end(self) -> bool:
        """Work lost by a bot that said it was going is the farm's doing, not the action's."""
        return self in (BotStatus.HOST_REBOOTING, BotStatus.BOT_TERMINATING)
