"""Who may do what can change while a server runs."""

from contextvars import copy_context
from typing import Any

import pytest
from buildgrid_scheduler.auth.access import OpenAccess, PolicyAccess, bind_caller
from buildgrid_scheduler.auth.denials import DenialLog
from buildgrid_scheduler.auth.identity import Identity
from buildgrid_scheduler.auth.policy import Right
from buildgrid_scheduler.config.auth import AuthConfig
from buildgrid_scheduler.core.errors import PermissionDenied
from buildgrid_scheduler.server.auth import Authentication, build_policy

ANN = Identity("sso", "sso", "ann", "ann")


def auth(right: str) -> AuthConfig:
    return AuthConfig.model_validate(
        {
            "jwt": [{"audiences": ["farm"], "jwks": {"file": "keys.json"}}],
            "policy": [{"identities": [{"subject": "ann"}], "rights": [right]}],
        }
    )


def as_ann(call: Any) -> Any:
    """As if a call of hers ran."""

    def run() -> Any:
        bind_caller(ANN)
        return call()

    return copy_context().run(run)


def test_a_new_policy_counts_for_the_next_call() -> None:
    access = PolicyAccess(build_policy(auth("execute")), DenialLog())
    authentication = Authentication(access)
    assert as_ann(lambda: access.allows(Right.EXECUTE, "main"))
    authentication.use_policy(build_policy(auth("cache-read")))
    assert not as_ann(lambda: access.allows(Right.EXECUTE, "main"))
    assert as_ann(lambda: access.allows(Right.CACHE_READ, "main"))
    with pytest.raises(PermissionDenied, match="execute"):
        as_ann(lambda: access.authorize(Right.EXECUTE, "main"))


def test_without_authentication_there_is_no_policy_to_change() -> None:
    authentication = Authentication(OpenAccess())
    authentication.use_policy(build_policy(AuthConfig()))
    assert authentication.access.allows(Right.ADMINISTER, "main")
