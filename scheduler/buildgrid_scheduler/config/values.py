"""Kinds of values that fields have, and how people write them."""

import re
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

REAPI_KEYWORDS = frozenset(
    {"blobs", "uploads", "actions", "actionResults", "operations", "capabilities", "compressed-blobs"}
)
_UNITS = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)(ms|w|d|h|m|s))")
_NO_DURATION = "is not a duration; write seconds as a number, or for example 90s, 15m, 1h30m, 30d"
_LONGEST = timedelta(days=36500)
_BINARY = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4}
_DECIMAL = {"": 1, "k": 1000, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i|[kKMGT])?B?")
_POSTGRES_URL = re.compile(
    r"postgres(?:ql)?://(?:[^@]*@)?(?:\[[0-9a-fA-F:.%]+\]|[^\s:/?@\[\]]*)(?::(\d{1,5}))?(?:/[^?]*)?(?:\?.*)?"
)
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(\d{1,5})")


def parse_duration(value: Any) -> timedelta:
    """Seconds as a number, or text such as `90s`, `1h30m`, `30d`. ValueError for anything else."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(_NO_DURATION)  # noqa: TRY004 - what pydantic takes for a wrong value
    try:
        duration = timedelta(seconds=float(value))
    except (OverflowError, ValueError):
        pieces = _DURATION.findall(str(value).strip())
        if not pieces or "".join(n + unit for n, unit in pieces) != str(value).strip():
            raise ValueError(f"{value!r} {_NO_DURATION}") from None
        duration = sum((float(number) * _UNITS[unit] for number, unit in pieces), timedelta())
    if duration < timedelta():
        raise ValueError("a duration is not negative")
    if duration > _LONGEST:
        raise ValueError("a duration is at most 36500d")
    return duration


def show_duration(duration: timedelta) -> str:
    """As it would be written: `1h30m`, `0s`, `0.5s`."""
    left, text = duration, ""
    for unit in ("d", "h", "m"):
        count, left = divmod(left, _UNITS[unit])
        text += f"{count}{unit}" if count else ""
    return f"{text}{left.total_seconds():g}s" if left or not text else text


def parse_size(value: Any) -> int:
    """Bytes as a number, or text such as `512Mi`, `10GiB`, `10GB`. ValueError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            f"{value!r} is not a size; write bytes as a whole number, or for example 512Mi, 10Gi, 10GB"
        )
    unit = match[2] or ""
    return int(float(match[1]) * {**_BINARY, **_DECIMAL}[unit])


def show_size(size: int) -> str:
    """As it would be written: `20Gi`, `1500`."""
    for unit, factor in reversed(_BINARY.items()):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def _instance_name(name: str) -> str:
    segments = name.split("/") if name else []
    if "" in segments:
        raise ValueError("an instance name has no empty segments; no / at its ends, and none twice in a row")
    if taken := REAPI_KEYWORDS.intersection(segments):
        raise ValueError(f"{min(taken)!r} may not be a segment of an instance name (REAPI, resource names)")
    return name


def _whole_address(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(  # noqa: TRY004 - what pydantic takes for a wrong value
            f"must be HOST:PORT (is the number {value}); write for example 127.0.0.1:50051"
        )
    return value


def _address(value: str) -> str:
    match = _ADDRESS.fullmatch(value)
    if match is None:
        raise ValueError(
            f"{value!r} is not HOST:PORT; write for example 127.0.0.1:50051, or '[::]:50051' in quotes"
        )
    if int(match[2]) > 65535:
        raise ValueError("the port must be from 0 to 65535")
    return value


def addresses_overlap(one: str, other: str) -> bool:
    """Whether two HOST:PORT cannot both be bound. `[::]` takes IPv4's address of each port, too."""
    (host, _, port), (other_host, _, other_port) = one.rpartition(":"), other.rpartition(":")
    if int(port) != int(other_port) or int(port) == 0:
        return False
    hosts, others = _hosts(host), _hosts(other_host)
    return bool(hosts & others) or any(
        any_host in here and (any_host == "::" or any(":" not in name for name in there))
        for here, there in ((hosts, others), (others, hosts))
        for any_host in ("::", "0.0.0.0")  # noqa: S104 - nothing is bound here
    )


def _hosts(host: str) -> set[str]:
    name = host.strip("[]").lower()
    if name == "localhost":
        return {"127.0.0.1", "::1"}
    try:
        return {str(ip_address(name))}
    except ValueError:
        return {name}


def postgres_url(value: str) -> str:
    """The value, if it is a URL of PostgreSQL by its form; ValueError for anything else."""
    # The value is not repeated: it may hold a password.
    match = _POSTGRES_URL.fullmatch(value)
    if match is None or int(match[1] or 0) > 65535:
        raise ValueError("is not postgresql://USER[:PASSWORD]@HOST[:PORT]/DATABASE")
    return value


def _http_url(value: str) -> str:
    if not re.match(r"https?://[^/\s]", value):
        raise ValueError(f"{value!r} is not a URL; write for example https://build.example.org")
    return value


InstanceName = Annotated[str, AfterValidator(_instance_name)]
"""segments joined by /; may be empty"""
Address = Annotated[str, BeforeValidator(_whole_address), AfterValidator(_address)]
"""HOST:PORT, a numeric IPv6 host in brackets; port 0: any free one"""
PostgresUrl = Annotated[str, AfterValidator(postgres_url)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
"""never negative; more bounds with Field(ge=...)"""
ByteSize = Annotated[int, BeforeValidator(parse_size), Field(ge=1024 * 1024)]
"""at least 1 MiB"""
