"""What gRPC says of connections that do not come about, and what people are told."""

import pytest
from buildgrid_client.connection_trouble import cause_of, explained, shortened

PLAIN, SECURE = "grpc://build:1", "grpcs://build:1"
_FAILED = "failed to connect to all addresses; last error: "
_HANDSHAKE = (
    f"{_FAILED}UNKNOWN: ipv4:10.0.0.1:1: Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:"
)
_OPENSSL = "SSL routines:OPENSSL_internal:"
_UNTRUSTED = f"{_OPENSSL}CERTIFICATE_VERIFY_FAILED"
_CHECK = f"{_FAILED}UNKNOWN: ipv4:10.0.0.1:1: Custom verification check failed with error: UNAUTHENTICATED: "
CLOSED = f"{_FAILED}UNAVAILABLE: ipv4:10.0.0.1:1: Socket closed"


@pytest.mark.parametrize(
    ("details", "words"),
    [
        (
            f"{_HANDSHAKE}1000007d:{_UNTRUSTED}: unable to get local issuer certificate: OK",
            "name its CA with --tls-ca",
        ),
        (
            f"{_HANDSHAKE}1000007d:{_UNTRUSTED}: certificate has expired: OK",
            "has expired",
        ),
        (
            f"{_HANDSHAKE}1a000064:ECDSA routines:BAD_SIGNATURE: certificate signature failure",
            "--tls-ca",
        ),
        (
            f"{_HANDSHAKE}100000f7:{_OPENSSL}WRONG_VERSION_NUMBER: Invalid certificate",
            "does not speak TLS: use grpc://",
        ),
        (
            f"{_CHECK}Hostname Verification Check failed.",
            "for other names",
        ),
        (
            f"{_FAILED}UNKNOWN: ipv4:10.0.0.1:1: Cannot check peer: missing selected ALPN property.",
            "not gRPC",
        ),
    ],
)
def test_what_is_wrong_with_tls_does_not_go_away(details: str, words: str) -> None:
    cause = cause_of(SECURE, details)
    assert cause is not None
    assert cause.lasting and words in cause.words
    assert explained(SECURE, details) == f"{cause.words} ({shortened(details)})"


@pytest.mark.parametrize(
    ("endpoint", "details", "words"),
    [
        (
            PLAIN,
            f"{_FAILED}UNKNOWN: ipv4:10.0.0.1:1: Failed to connect to remote host: Connection refused",
            "nothing listens there",
        ),
        (
            SECURE,
            "errors resolving build:1: [field:hostname lookup error: Domain name not found]",
            "no such host name",
        ),
        (PLAIN, CLOSED, "perhaps it speaks TLS, grpcs://build:1"),
        (SECURE, CLOSED, "perhaps it wants a certificate (--tls-certificate, --tls-key)"),
        (SECURE, f"{_HANDSHAKE}1: Connection reset by peer", "the TLS handshake failed"),
    ],
)
def test_what_may_go_away_is_waited_for(endpoint: str, details: str, words: str) -> None:
    cause = cause_of(endpoint, details)
    assert cause is not None
    assert not cause.lasting and words in cause.words


def test_a_server_that_was_found_to_speak_tls_is_named_so() -> None:
    cause = cause_of(PLAIN, CLOSED, speaks_tls=True)
    assert cause is not None
    assert (cause.words, cause.lasting) == ("the server there speaks TLS: name it grpcs://build:1", True)


@pytest.mark.parametrize("endpoint", [PLAIN, SECURE])
def test_a_connection_that_worked_before_is_no_riddle_of_tls(endpoint: str) -> None:
    assert cause_of(endpoint, CLOSED, answered=True) is None
    assert explained(endpoint, CLOSED, answered=True) == CLOSED


def test_what_is_not_known_is_said_as_it_is() -> None:
    assert cause_of(PLAIN, "the database is away") is None
    assert explained(PLAIN, "the database is away") == "the database is away"
    assert shortened(CLOSED) == "UNAVAILABLE: ipv4:10.0.0.1:1: Socket closed"
    assert shortened("") == "no reason was given"
