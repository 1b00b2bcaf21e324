"""Bearer tokens: JSON Web Tokens, verified with the keys of the issuers that the configuration trusts.

A verified token is remembered by its hash until it expires or its issuer's keys change, so that a call costs
a hash and a look into a dict. Everything here runs on the event loop; keys are fetched elsewhere, and a call
waits for them only when its token names a key that is not known.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import jwt

from buildgrid_scheduler.auth.claims import ClaimMapping, verified_claims
from buildgrid_scheduler.auth.identity import Identity, Verified
from buildgrid_scheduler.auth.key_ring import KeyRing
from buildgrid_scheduler.auth.key_set import ASYMMETRIC_ALGORITHMS
from buildgrid_scheduler.core.clock import Clock, utc_now
from buildgrid_scheduler.core.errors import Unauthenticated, Unavailable

MAX_REMEMBERED = 20_000
WAIT_FOR_KEYS = 10.0
"""Seconds that a call waits for the key of its token at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Issuer:
    """Who may vouch for callers. `issuer` is the claim `iss`; None: not looked at. `audiences`: one of them
    must be in the claim `aud`."""

    name: str
    keys: KeyRing
    issuer: str | None
    audiences: tuple[str, ...]
    algorithms: frozenset[str] = ASYMMETRIC_ALGORITHMS
    leeway: timedelta = timedelta(seconds=30)
    mapping: ClaimMapping = field(default_factory=ClaimMapping)
    kubernetes: bool = False


@dataclass(frozen=True, slots=True)
class _Remembered:
    verified: Verified
    issuer: Issuer
    generation: int


class JwtAuthenticator:
    """Tokens of any of the issuers. To be used on one event loop."""

    def __init__(
        self, issuers: Iterable[Issuer], clock: Clock = utc_now, wait_for_keys: float = WAIT_FOR_KEYS
    ) -> None:
        self._issuers = tuple(issuers)
        self._clock = clock
        self._wait_for_keys = wait_for_keys
        self._remembered: dict[bytes, _Remembered] = {}

    async def authenticate(self, token: str) -> Identity:
        """Whose token it is.

        Raises Unauthenticated when it cannot be believed, and Unavailable when the keys that would tell
        cannot be fetched just now. No message holds a part of the token.
        """
        key = hashlib.sha256(token.encode(errors="replace")).digest()
        known = self._remembered.get(key)
        if known is None or known.generation != known.issuer.keys.generation:
            self._remembered.pop(key, None)
            known = await self._verify(token)
        try:
            known.verified.check(self._clock())
        except Unauthenticated:
            self._remembered.pop(key, None)
            raise
        if key not in self._remembered:
            if len(self._remembered) >= MAX_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[key] = known
        return known.verified.identity

    async def _verify(self, token: str) -> _Remembered:
        header, claims = _unverified(token)
        issuer = self._issuer_of(claims)
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
            raise Unauthenticated(
                "the token's algorithm is not accepted; accepted: " + ", ".join(sorted(issuer.algorithms))
            )
        kid = header.get("kid")
        if (known := _try_keys(token, issuer, kid, algorithm)) is not None:
            return known
        if not issuer.keys.keys.knows(kid):
            await self._wait(issuer)
            if (known := _try_keys(token, issuer, kid, algorithm)) is not None:
                return known
            if issuer.keys.failure is not None and not issuer.keys.keys.knows(kid):
                raise Unavailable(
                    f"the keys of issuer {issuer.name} cannot be fetched just now; call again later"
                )
        raise Unauthenticated("the token's signature is that of no known key of its issuer")

    def _issuer_of(self, claims: Mapping[str, Any]) -> Issuer:
        named = claims.get("iss")
        for issuer in self._issuers:
            if issuer.issuer is None or issuer.issuer == named:
                return issuer
        raise Unauthenticated("the token's issuer (claim iss) is not one that this server trusts")

    async def _wait(self, issuer: Issuer) -> None:
        fetched = issuer.keys.refresh()
        if fetched is not None:
            # Not wait_for, which would cancel what others wait for as well.
            await asyncio.wait([asyncio.wrap_future(fetched)], timeout=self._wait_for_keys)


def _unverified(token: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Header and claims, to choose issuer and key by. They are not to be believed yet."""
    try:
        parts = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError) as error:
        raise Unauthenticated("the bearer token is not a JSON Web Token") from error
    return parts["header"], parts["payload"]


def _try_keys(token: str, issuer: Issuer, kid: str | None, algorithm: str) -> _Remembered | None:
    """What the token says, if one of the issuer's keys signed it."""
    generation = issuer.keys.generation
    for key in issuer.keys.keys.candidates(kid, algorithm):
        try:
            claims = jwt.decode(
                token,
                key.material,
                algorithms=sorted(key.algorithms & issuer.algorithms),
                audience=issuer.audiences,
                issuer=issuer.issuer,
                # Times are looked at for every call, by the clock that we were given: see Verified.
                options={
                    "require": ["exp", "aud"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidSignatureError:
            continue
        except jwt.PyJWTError as error:
            raise Unauthenticated(_reason(error, issuer)) from error
        verified = verified_claims(
            claims, issuer.name, issuer.mapping, kubernetes=issuer.kubernetes, leeway=issuer.leeway
        )
        return _Remembered(verified, issuer, generation)
    return None


def _reason(error: jwt.PyJWTError, issuer: Issuer) -> str:
    """In words of our own: those of the library may quote the token."""
    if isinstance(error, jwt.MissingRequiredClaimError) and error.claim in ("exp", "aud", "iss"):
        return f"the token has no claim {error.claim}"
    if isinstance(error, jwt.InvalidAudienceError):
        return f"the token is for another audience; wanted: {', '.join(issuer.audiences)}"
    return "the token is malformed"
