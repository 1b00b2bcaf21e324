"""What replicas tell each other through PostgreSQL's NOTIFY: compact, coalesced, below its size limit."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

CHANNEL = "buildgrid_scheduler"
MAX_PAYLOAD = 7900  # bytes; PostgreSQL refuses 8000


@dataclass(slots=True)
class Message:
    """One notification. `hello` asks the others to tell this replica what happens from now on."""

    origin: str
    jobs: list[str] = field(default_factory=list)
    arrivals: list[tuple[str, str]] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    hello: bool = False


def encode(
    origin: str,
    *,
    jobs: Iterable[str] = (),
    arrivals: Iterable[tuple[str, str]] = (),
    sessions: Iterable[str] = (),
    hello: bool = False,
) -> list[str]:
    """The payloads that tell all this."""
    entries: list[tuple[str, object]] = [
        *(("j", job) for job in jobs),
        *(("a", list(arrival)) for arrival in arrivals),
        *(("s", session) for session in sessions),
    ]
    payloads: list[str] = []
    current: dict[str, list[object]] = {}
    size = 0
    for kind, value in entries:
        cost = len(json.dumps(value)) + 8
        if size + cost > MAX_PAYLOAD - 200 and current:
            payloads.append(json.dumps({"o": origin, **current}, separators=(",", ":")))
            current, size = {}, 0
        current.setdefault(kind, []).append(value)
        size += cost
    if hello:
        payloads.append(json.dumps({"o": origin, "h": 1}))
    if current:
        payloads.append(json.dumps({"o": origin, **current}, separators=(",", ":")))
    return payloads


def decode(payload: str) -> Message:
    """The inverse of `encode`, for one payload."""
    data = json.loads(payload)
    return Message(
        origin=data["o"],
        jobs=data.get("j", []),
        arrivals=[(i, h) for i, h in data.get("a", [])],
        sessions=data.get("s", []),
        hello=bool(data.get("h")),
    )
