"""Why a server cannot be reached, in words with a remedy, from what gRPC says of it. Pure decisions."""

from typing import NamedTuple

from buildgrid_client.channel import parse_endpoint


class Cause(NamedTuple):
    """What is wrong, and what to do about it. `lasting`: it does not go away by waiting."""

    words: str
    lasting: bool


# In the order in which they are looked for: what gRPC says (in small letters), and what that means.
_OF_TLS = (
    ("wrong_version_number", "the server there does not speak TLS: use grpc://, or another port"),
    ("http_request", "the server there does not speak TLS: use grpc://, or another port"),
    ("certificate has expired", "the server's certificate has expired: renew it there, or correct a clock"),
    ("certificate is not yet valid", "the server's certificate is not valid yet: correct a clock"),
    ("certificate_verify_failed", "the server's certificate is not trusted: name its CA with --tls-ca"),
    ("certificate signature", "the server's certificate is not trusted: name its CA with --tls-ca"),
    ("hostname verification", "the server's certificate is for other names: call the server by one of them"),
    ("is not in peer certificate", "the server's certificate is for other names: call it by one of them"),
    ("missing selected alpn", "the server there speaks TLS, but not gRPC: name another port"),
)
# May be a server that is just being restarted, too.
_PERHAPS_OF_TLS = (
    ("alert", "the server refuses the TLS connection: check --tls-certificate and --tls-key"),
    ("handshake failed", "the TLS handshake failed: check --tls-ca, --tls-certificate and --tls-key"),
)
_NO_GRPC = ("http1.x server", "failed parsing http/2")
_CLOSED = ("socket closed", "connection reset", "end of tcp stream", "broken pipe")


def cause_of(endpoint: str, details: str, *, speaks_tls: bool | None = None) -> Cause | None:
    """What `details` of UNAVAILABLE mean, of a call to `endpoint`; None when they say it well enough.

    `speaks_tls`: whether the server does, where the caller has found that out.
    """
    said = details.lower()
    secure = parse_endpoint(endpoint)[1]
    if secure:
        for known, lasting in ((_OF_TLS, True), (_PERHAPS_OF_TLS, False)):
            for text, words in known:
                if text in said:
                    return Cause(words, lasting)
    elif speaks_tls:
        return Cause(f"the server there speaks TLS: name it {tls_endpoint(endpoint)}", lasting=True)
    if any(text in said for text in _NO_GRPC):
        return Cause("what answers there does not speak gRPC: name another port", lasting=True)
    if "connection refused" in said:
        return Cause("nothing listens there: start the server, or name another", lasting=False)
    if "domain name not found" in said:
        return Cause("there is no such host name", lasting=False)
    if was_closed(details):
        return Cause(
            "the server closes connections: perhaps it wants a certificate (--tls-certificate, --tls-key), "
            "and one from a CA that it knows"
            if secure
            else f"the server closes connections: perhaps it speaks TLS, {tls_endpoint(endpoint)}",
            lasting=False,
        )
    return None


def explained(endpoint: str, details: str) -> str:
    """The details of UNAVAILABLE, after what they mean where that is known."""
    cause = cause_of(endpoint, details)
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
