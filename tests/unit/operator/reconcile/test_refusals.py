"""What could not be applied, in words for a condition."""

import pytest
from buildgrid_operator.cluster.errors import (
    Cause,
    ClusterError,
    Forbidden,
    Invalid,
    KindMissing,
    NamespaceTerminating,
    Permission,
    PermissionMissing,
)
from buildgrid_operator.cluster.kinds import DEPLOYMENT, GRPC_ROUTE, NETWORK_POLICY, ObjectRef
from buildgrid_operator.reconcile.apply_set import Failure, NameTaken
from buildgrid_operator.reconcile.refusals import refusal_of

ROUTE = ObjectRef(GRPC_ROUTE, "farm", "a")
PODS = ObjectRef(DEPLOYMENT, "farm", "a")


@pytest.mark.parametrize(
    ("ref", "error", "reason", "words"),
    [
        (
            PODS,
            PermissionMissing(Permission("create", "deployments", "apps", "farm")),
            "PermissionMissing",
            "may not create deployments.apps in the namespace farm: grant its service account",
        ),
        (ROUTE, KindMissing("x"), "KindMissing", "install its CRD, or remove spec.grpcRoute"),
        (PODS, NameTaken(PODS), "NameTaken", "Deployment farm/a exists and does not belong to the operator"),
        (
            PODS,
            Invalid("x", [Cause("spec.replicas", "must be positive")]),
            "ObjectRefused",
            "the API server refuses Deployment farm/a: spec.replicas: must be positive",
        ),
        (PODS, Invalid("quantities must match"), "ObjectRefused", "quantities must match"),
        (PODS, Forbidden("exceeded quota"), "ObjectRefused", "exceeded quota"),
        (PODS, NamespaceTerminating("is being terminated"), "ObjectRefused", "is being terminated"),
        (PODS, ClusterError("method not allowed"), "ApplyFailed", "method not allowed"),
    ],
)
def test_each_refusal_has_a_reason_and_says_what_to_do(
    ref: ObjectRef, error: ClusterError, reason: str, words: str
) -> None:
    refusal = refusal_of(Failure(ref, error))
    assert refusal.reason == reason
    assert words in refusal.message


def test_what_nothing_depends_on_is_not_blocking() -> None:
    denied = Forbidden("no")
    assert not refusal_of(Failure(ObjectRef(NETWORK_POLICY, "farm", "a"), denied)).blocking
    assert refusal_of(Failure(PODS, denied)).blocking
