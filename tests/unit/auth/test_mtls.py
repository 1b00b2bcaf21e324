"""Fields of a client certificate become an identity."""

from datetime import UTC, datetime, timedelta

import pytest
from buildgrid_scheduler.auth.identity import Identity
from buildgrid_scheduler.auth.mtls import CertificateAuthenticator, CertificateMapping
from buildgrid_scheduler.core.errors import Unauthenticated

from tests.credentials.certificates import Authority, Pair

CA = Authority()


def authenticate(pair: Pair, mapping: CertificateMapping | None = None) -> Identity:
    return CertificateAuthenticator(mapping).authenticate({"x509_pem_cert": [pair.certificate]})


def test_the_common_name_is_the_subject_and_organizations_are_groups() -> None:
    identity = authenticate(CA.client("alice", organizations=("developers", "linux"), dns=("a.example.org",)))
    assert identity == Identity("mtls", "mtls", "alice", "alice", frozenset({"developers", "linux"}))


def test_a_spiffe_id_comes_before_the_common_name() -> None:
    identity = authenticate(CA.client("pod", uris=("https://x", "spiffe://cluster/ns/builds/sa/bot")))
    assert identity.subject == "spiffe://cluster/ns/builds/sa/bot"


def test_a_dns_name_is_what_is_left() -> None:
    assert authenticate(CA.client(dns=("a.example.org", "b.example.org"))).subject == "a.example.org"


def test_other_fields_can_be_chosen() -> None:
    mapping = CertificateMapping(workflow=("organization",), actor=("dns",), subject=("uri",), groups=())
    identity = authenticate(CA.client("x", organizations=("o",), dns=("d",), uris=("https://u",)), mapping)
    assert identity == Identity("mtls", "o", "d", "https://u")


def test_two_spiffe_ids_are_refused() -> None:
    with pytest.raises(Unauthenticated, match="more than one SPIFFE id"):
        authenticate(CA.client(uris=("spiffe://a/b", "spiffe://a/c")))


def test_a_certificate_that_names_nobody_is_refused() -> None:
    with pytest.raises(Unauthenticated, match="none of the fields spiffe, common-name, dns"):
        authenticate(CA.client(organizations=("o",)))


@pytest.mark.parametrize("context", [{}, {"x509_pem_cert": []}, {"x509_pem_cert": [b"no"]}])
def test_a_connection_without_a_certificate_is_refused(context: dict[str, list[bytes]]) -> None:
    with pytest.raises(Unauthenticated, match="client certificate"):
        CertificateAuthenticator().authenticate(context)


def test_a_certificate_that_expires_while_its_connection_lives_is_refused() -> None:
    now = datetime.now(UTC)
    certificates = CertificateAuthenticator(clock=lambda: now)
    context = {"x509_pem_cert": [CA.client("alice", life=timedelta(minutes=1)).certificate]}
    assert certificates.authenticate(context)
    now += timedelta(minutes=2)
    with pytest.raises(Unauthenticated, match="expired"):
        certificates.authenticate(context)
