"""From the settings to what checks identities and rights, and to the server's certificate."""

import logging
from dataclasses import dataclass
from datetime import timedelta

import grpc

from buildgrid_scheduler.auth.access import Access, OpenAccess, PolicyAccess
from buildgrid_scheduler.auth.claims import ClaimMapping
from buildgrid_scheduler.auth.denials import DenialLog
from buildgrid_scheduler.auth.interceptor import AuthenticationInterceptor
from buildgrid_scheduler.auth.jwt import Issuer, JwtAuthenticator
from buildgrid_scheduler.auth.key_ring import KeyRing
from buildgrid_scheduler.auth.key_set import ASYMMETRIC_ALGORITHMS, UnusableKeysError
from buildgrid_scheduler.auth.key_sources import KeySource, UrlKeys, jwks_file, secret_file
from buildgrid_scheduler.auth.mtls import CertificateAuthenticator, CertificateMapping
from buildgrid_scheduler.auth.policy import Matcher, Policy, Right, Rule
from buildgrid_scheduler.auth.tls import CertificateFiles, ReloadingCertificate, UnusableCertificateError
from buildgrid_scheduler.config import ConfigError
from buildgrid_scheduler.config.auth import AuthConfig, JwtIssuerConfig, RuleConfig, TlsConfig, contradiction

log = logging.getLogger(__name__)

FILE_INTERVAL = timedelta(seconds=5)
"""How often a file with keys is looked at; a token with an unknown key is looked for at once."""
FILE_MIN_INTERVAL = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Authentication:
    """`access` goes to the services, `interceptors` to `grpc.aio.server`: none without authentication.

    `start` before the server serves, `stop` when it has stopped; both may block for a moment.
    """

    access: Access
    interceptors: tuple[grpc.aio.ServerInterceptor, ...] = ()
    key_rings: tuple[KeyRing, ...] = ()

    def start(self) -> None:
        """Begin to keep the issuers' keys current."""
        for ring in self.key_rings:
            ring.start()

    def use_policy(self, policy: Policy) -> None:
        """From now on another policy says who may do what. Without authentication there is none."""
        if isinstance(self.access, PolicyAccess):
            self.access.policy = policy

    def stop(self) -> None:
        """Stop it."""
        for ring in self.key_rings:
            ring.stop()


def build_auth(auth: AuthConfig, tls: TlsConfig | None, where: str = "auth") -> Authentication:
    """Raises ConfigError where a file with keys cannot be used. A URL need not be there yet.

    `where`: the place of the section, for messages.
    """
    if (problem := contradiction(auth, tls)) is not None:
        raise ConfigError(f"{where}.mtls: {problem}")
    if not auth.enabled:
        return Authentication(OpenAccess())
    if auth.jwt and tls is None:
        log.warning(
            "%s.jwt without tls: tokens can be read on the way, unless a proxy ends TLS before us", where
        )
    denials = DenialLog()
    issuers = [_issuer(f"{where}.jwt[{place}]", issuer) for place, issuer in enumerate(auth.jwt)]
    interceptor = AuthenticationInterceptor(
        denials,
        tokens=JwtAuthenticator(issuers) if issuers else None,
        certificates=None
        if auth.mtls is None
        else CertificateAuthenticator(
            CertificateMapping(auth.mtls.workflow, auth.mtls.actor, auth.mtls.subject, auth.mtls.groups)
        ),
    )
    access = PolicyAccess(build_policy(auth), denials)
    return Authentication(access, (interceptor,), tuple(issuer.keys for issuer in issuers))


def build_policy(auth: AuthConfig) -> Policy:
    """Who may do what."""
    return Policy(_rule(rule) for rule in auth.policy)


def server_credentials(tls: TlsConfig | None) -> grpc.ServerCredentials | None:
    """For `add_secure_port`; None: `add_insecure_port`. Raises ConfigError where a file cannot be used."""
    if tls is None:
        return None
    files = CertificateFiles(tls.certificate_file, tls.key_file, tls.client_ca_file)
    try:
        return ReloadingCertificate(files).credentials()
    except UnusableCertificateError as error:
        raise ConfigError(f"tls: {error}") from error


def _rule(rule: RuleConfig) -> Rule:
    return Rule(
        tuple(Matcher(**matcher.model_dump()) for matcher in rule.identities),
        rule.instances,
        frozenset(Right(name) for name in rule.rights),
    )


def _issuer(where: str, config: JwtIssuerConfig) -> Issuer:
    algorithms = frozenset[str](
        config.algorithms or (ASYMMETRIC_ALGORITHMS if config.jwks is not None else {"HS256"})
    )
    return Issuer(
        name=config.name,
        keys=_key_ring(where, config, algorithms),
        issuer=config.issuer,
        audiences=config.audiences,
        algorithms=algorithms,
        leeway=config.leeway,
        mapping=ClaimMapping(
            config.claims.workflow, config.claims.actor, config.claims.subject, config.claims.groups
        ),
        kubernetes=config.kubernetes,
    )


def _key_ring(where: str, config: JwtIssuerConfig, algorithms: frozenset[str]) -> KeyRing:
    jwks = config.jwks
    if jwks is not None and jwks.url is not None:
        return KeyRing(
            config.name,
            UrlKeys(
                jwks.url,
                ca_file=jwks.ca_file,
                bearer_token_file=jwks.bearer_token_file,
                timeout=jwks.timeout.total_seconds(),
            ),
            refresh_interval=jwks.refresh_interval,
            min_interval=jwks.min_interval,
        )
    if jwks is not None and jwks.file is not None:
        return _file_ring(f"{where}.jwks.file", config.name, jwks_file(jwks.file))
    if config.secret_file is not None:
        return _file_ring(f"{where}.secret_file", config.name, secret_file(config.secret_file, algorithms))
    raise ConfigError(f"{where}: set one of jwks and secret_file")


def _file_ring(field: str, name: str, source: KeySource) -> KeyRing:
    """A file, unlike a URL, must be good at start: it is there, or the configuration names a wrong one."""
    ring = KeyRing(name, source, refresh_interval=FILE_INTERVAL, min_interval=FILE_MIN_INTERVAL)
    try:
        ring.load()
    except UnusableKeysError as error:
        raise ConfigError(f"{field}: {error}") from error
    return ring
