"""Client certificates: who calls, by the certificate that the TLS handshake verified."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier

from buildgrid_scheduler.auth.identity import Identity, Verified, checked_name
from buildgrid_scheduler.core.clock import Clock, utc_now
from buildgrid_scheduler.core.errors import Unauthenticated

ISSUER = "mtls"
"""The issuer's name of identities from certificates."""
_PEM_PROPERTY = "x509_pem_cert"
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class CertificateMapping:
    """Which fields of a certificate make an identity; the first that is there counts.

    Fields: see `FIELDS`. Without one for it, the workflow is `mtls` and the actor is the subject.
    """

    workflow: tuple[str, ...] = ()
    actor: tuple[str, ...] = ()
    subject: tuple[str, ...] = ("spiffe", "common-name", "dns")
    groups: tuple[str, ...] = ("organization",)  # as in Kubernetes' client certificates


class CertificateAuthenticator:
    """Identities of certificates, remembered by the certificate's text.

    gRPC verified that a trusted CA signed the certificate and that the caller has its key. Its time is looked
    at again for every call, since connections live on.
    """

    def __init__(self, mapping: CertificateMapping | None = None, clock: Clock = utc_now) -> None:
        self._mapping = mapping or CertificateMapping()
        self._clock = clock
        self._verified = lru_cache(maxsize=_REMEMBERED)(self._parse)

    def authenticate(self, auth_context: Mapping[str, Iterable[bytes]]) -> Identity:
        """Whose call it is, by gRPC's `ServicerContext.auth_context()`. Raises Unauthenticated."""
        pem = next(iter(auth_context.get(_PEM_PROPERTY, ())), None)
        if pem is None:
            raise Unauthenticated("the connection has no client certificate; use TLS with one")
        verified = self._verified(pem)
        verified.check(self._clock())
        return verified.identity

    def _parse(self, pem: bytes) -> Verified:
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            fields = {name: tuple(read(certificate)) for name, read in FIELDS.items()}
        except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
            raise Unauthenticated("the client certificate cannot be read") from error
        if len(fields["spiffe"]) > 1:  # SPIFFE X.509-SVID, section 2: exactly one URI
            raise Unauthenticated("the client certificate has more than one SPIFFE id")
        subject = _first(fields, self._mapping.subject)
        if subject is None:
            wanted = ", ".join(self._mapping.subject)
            raise Unauthenticated(f"the client certificate has none of the fields {wanted}")
        identity = Identity(
            issuer=ISSUER,
            workflow=_first(fields, self._mapping.workflow) or ISSUER,
            actor=_first(fields, self._mapping.actor) or subject,
            subject=subject,
            groups=frozenset(value for name in self._mapping.groups for value in fields[name]),
        )
        # Certificates end with their last second (RFC 5280, section 4.1.2.5).
        ends = certificate.not_valid_after_utc + timedelta(seconds=1)
        return Verified(identity, certificate.not_valid_before_utc, ends)


def _first(fields: Mapping[str, tuple[str, ...]], names: tuple[str, ...]) -> str | None:
    for name in names:
        if fields[name]:
            return checked_name(f"the client certificate's {name}", fields[name][0])
    return None


def _names(oid: ObjectIdentifier) -> Callable[[x509.Certificate], list[str]]:
    def read(certificate: x509.Certificate) -> list[str]:
        values = (attribute.value for attribute in certificate.subject.get_attributes_for_oid(oid))
        return [value if isinstance(value, str) else value.decode(errors="replace") for value in values]

    return read


def _alternatives(kind: type[x509.GeneralName], prefix: str = "") -> Callable[[x509.Certificate], list[str]]:
    def read(certificate: x509.Certificate) -> list[str]:
        try:
            extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except x509.ExtensionNotFound:
            return []
        values = (name.value for name in extension.value if isinstance(name, kind))
        return [value for value in values if isinstance(value, str) and value.startswith(prefix)]

    return read


FIELDS: dict[str, Callable[[x509.Certificate], list[str]]] = {
    "spiffe": _alternatives(x509.UniformResourceIdentifier, "spiffe://"),
    "uri": _alternatives(x509.UniformResourceIdentifier),
    "dns": _alternatives(x509.DNSName),
    "email": _alternatives(x509.RFC822Name),
    "common-name": _names(NameOID.COMMON_NAME),
    "organization": _names(NameOID.ORGANIZATION_NAME),
    "organizational-unit": _names(NameOID.ORGANIZATIONAL_UNIT_NAME),
}
"""What a field's name in a mapping stands for."""
