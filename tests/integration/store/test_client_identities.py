"""Identities of clients are kept once each, and only if the database can hold them."""

import secrets

import pytest
from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.shared_rows import MAX_IDENTITY_BYTES, ClientIdentities


def test_the_longest_identity_can_be_kept_and_a_longer_one_is_refused(provider: SqlProvider) -> None:
    identities = ClientIdentities(provider)
    longest = secrets.token_hex(MAX_IDENTITY_BYTES // 2)  # cannot be compressed by much
    number = identities.id_of(("", "", "", longest))
    assert ClientIdentities(provider).id_of(("", "", "", longest)) == number
    with pytest.raises(InvalidArgument, match=r"client identity.*use shorter ones"):
        identities.id_of(("", "i", "", longest))
    with pytest.raises(InvalidArgument, match="NUL"):
        identities.id_of(("", "", "", "a\0b"))
