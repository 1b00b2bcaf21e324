"""Why a server cannot be reached, in words with a remedy, from what gRPC says of it. Pure decisions."""

from typing import NamedTuple

from buildgrid_client.channel import parse_endpoint


class Cause(NamedTuple):
    """What is wrong, and what to do about it.

    `lasting`: it does not go away by waiting. `nobody`: there is no server to say anything.
    """

    what: str
    remedy: str
    lasting: bool
    nobody: bool = False

    @property
    def words(self) -> str:
        """Both."""
        return f"{self.what}: {self.remedy}"


# In the order in which they are looked for: what gRPC says (in small letters), and what that means.
_NO_TLS = Cause("the server there does not speak TLS", "use grpc://, or another port", lasting=True)
_NO_TRUST = Cause("the server's certificate is not trusted", "name its CA with --tls-ca", lasting=True)
_OTHER_NAMES = Cause("the server's certificate is for other names", "call it by one of them", lasting=True)
_OF_TLS = (
    ("wrong_version_number", _NO_TLS),
    ("http_request", _NO_TLS),
    (
        "certificate has expired",
        Cause("the server's certificate has expired", "renew it there, or correct a clock", lasting=True),
    ),
    (
        "certificate is not yet valid",
        Cause("the server's certificate is not valid yet", "correct a clock", lasting=True),
    ),
    ("certificate_verify_failed", _NO_TRUST),
    ("certificate signature", _NO_TRUST),
    ("hostname verification", _OTHER_NAMES),
    ("is not in peer certificate", _OTHER_NAMES),
    (
        "missing selected alpn",
        Cause("the server there speaks TLS, but not gRPC", "name another port", lasting=True),
    ),
    # May be a server that is just being restarted, too.
    (
        "alert",
        Cause(
            "the server refuses the TLS connection",
            "check --tls-certificate and --tls-key",
            lasting=False,
        ),
    ),
    (
        "handshake failed",
        Cause("the TLS handshake failed", "check --tls-ca, --tls-certificate and --tls-key", lasting=False),
    ),
)
_NO_GRPC = ("http1.x server", "failed parsing http/2")
_CLOSED = ("socket closed", "connection reset", "end of tcp stream", "broken pipe")


def cause_of(
    endpoint: str, details: str, *, speaks_tls: bool | None = None, answered: bool = False
) -> Cause | None:
    """What `details` of UNAVAILABLE mean, of a call to `endpoint`; None when they say it well enough.

    `speaks_tls`: whether the server does, where the caller has found that out. `answered`: it has answered
    before, so that a connection that it closes is no sign of a wrong setting.
    """
    said = details.lower()
    secure = parse_endpoint(endpoint)[1]
    if secure:
        for text, cause in _OF_TLS:
            if text in said:
                return cause
    elif speaks_tls:
        return Cause("the server there speaks TLS", f"name it {tls_endpoint(endpoint)}", lasting=True)
    if any(text in said for text in _NO_GRPC):
        return Cause("what answers there does not speak gRPC", "name another port", lasting=True)
    if "connection refused" in said:
        return Cause("nothing listens there", "start the server, or name another", lasting=False, nobody=True)
    if "domain name not found" in said:
        return Cause("there is no such host name", "correct it, or name another server", lasting=False)
    if was_closed(details) and not answered:
        return Cause(
            "the server closes connections",
            "perhaps it wants a certificate (--tls-certificate, --tls-key), and one from a CA that it knows"
            if secure
            else f"perhaps it speaks TLS, {tls_endpoint(endpoint)}",
            lasting=False,
        )
    return None


def explained(endpoint: str, details: str, *, answered: bool = False) -> str:
    """The details of UNAVAILABLE, after what they mean where that is known. `answered`: see `cause_of`."""
    cause = cause_of(endpoint, details, answered=answered)
    return details if cause is None else f"{cause.words} ({shortened(details)})"


def was_closed(details: str) -> bool:
    """Whether the server ended the connection before it said anything, as one does that expects TLS."""
    said = details.lower()
    return any(text in said for text in _CLOSED)


def shortened(details: str) -> str:
    """What gRPC says, without what each of its messages begins with."""
    return details.rpartition("last error: ")[2] or "no reason was given"


def tls_endpoint(endpoint: str) -> str:
    """The same with TLS."""
    return endpoint.replace("grpc://", "grpcs://", 1)
