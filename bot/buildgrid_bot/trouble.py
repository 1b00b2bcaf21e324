"""Calls that fail in a row: what the bot says of them, and when it gives up. Pure; time is a parameter."""

from dataclasses import dataclass

import grpc

# A bot that cannot work says so this often, in seconds, and not at each of its tries.
SAY_EVERY = 30.0
# A server that is being set up may refuse a bot for a while; later than this it is the bot that is wrong.
REFUSED_FOR = 60.0

_REMEDIES = {
    grpc.StatusCode.INVALID_ARGUMENT: "check --instance, --bot-id and --slots",
    grpc.StatusCode.NOT_FOUND: "check --instance",
    grpc.StatusCode.FAILED_PRECONDITION: "check --property: the server's property set decides what it takes",
    grpc.StatusCode.UNAUTHENTICATED: "check --token-file, or --tls-certificate and --tls-key",
    grpc.StatusCode.PERMISSION_DENIED: "check --bot-id, and what the bot's identity may do in this instance",
    grpc.StatusCode.UNIMPLEMENTED: "check --endpoint: this server does not offer the Bots service",
}


class SessionRefused(Exception):
    """The server answers, and does not want this bot as it is configured, or wants another in its place."""


@dataclass(frozen=True)
class Complaint:
    """What follows from a failed call: `text` for the log, None when it was just said; `give_up` to end."""

    text: str | None
    give_up: bool = False


class Trouble:
    """The failures since the last call that went well."""

    def __init__(self, say_every: float = SAY_EVERY, refused_for: float = REFUSED_FOR) -> None:
        """Both in seconds."""
        self._say_every = say_every
        self._refused_for = refused_for
        self._code: grpc.StatusCode | None = None
        self._said = float("-inf")
        self._refused_since: float | None = None
        self.failures = 0

    def failed(self, what: str, code: grpc.StatusCode, details: str, now: float) -> Complaint:
        """`what` the bot could not do, as in "cannot ..."; `now` in seconds of a monotonic clock.

        A refusal is a code that the same call gets again, as long as nobody changes the bot or the server.
        """
        self.failures += 1
        remedy = _REMEDIES.get(code)
        if remedy is None:
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now
        give_up = self._refused_since is not None and now - self._refused_since >= self._refused_for
        if code is self._code and now - self._said < self._say_every and not give_up:
            return Complaint(None)
        self._code, self._said = code, now
        then = "giving up" if give_up else "trying again"
        return Complaint(
            f"cannot {what} ({code.name}: {details}); {remedy + '; ' if remedy else ''}{then}", give_up
        )

    def over(self) -> int:
        """A call went well. Returns how many failed before it."""
        failures, self.failures = self.failures, 0
        self._code, self._said, self._refused_since = None, float("-inf"), None
        return failures
