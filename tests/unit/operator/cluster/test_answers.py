"""Which error an answer of the API server is, in the server's own words (1.37)."""

import json
from datetime import timedelta
from typing import Any

import pytest
from buildgrid_operator.cluster.answers import error_of
from buildgrid_operator.cluster.errors import (
    AlreadyExists,
    ClusterError,
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    KindMissing,
    NamespaceTerminating,
    NotFound,
    PermissionMissing,
    ServerError,
    ServerTimeout,
    TooManyRequests,
    Unauthorized,
)


def answer(code: int, message: str = "", reason: str = "", **details: Any) -> ClusterError:
    status = {"kind": "Status", "message": message, "reason": reason, "details": details, "code": code}
    return error_of(code, {}, json.dumps(status).encode(), "apply Deployment a/b")


@pytest.mark.parametrize(
    ("error", "kind", "transient"),
    [
        (answer(401, "Unauthorized"), Unauthorized, True),
        (answer(403, "exceeded quota: pods", "Forbidden"), Forbidden, False),
        (answer(404, "not found", "NotFound", kind="deployments", name="b"), NotFound, False),
        (answer(409, "already exists", "AlreadyExists"), AlreadyExists, False),
        (answer(409, "the object has been modified", "Conflict"), Conflict, True),
        (answer(410, "the provided continue parameter is too old", "Expired"), Expired, True),
        (answer(422, "invalid", "Invalid"), Invalid, False),
        (answer(400, "cannot be handled as a Pod", "BadRequest"), Invalid, False),
        (answer(413, "request entity too large", "RequestEntityTooLarge"), Invalid, False),
        (answer(429, "too many requests", "TooManyRequests"), TooManyRequests, True),
        (answer(500, "etcdserver: leader changed", "InternalError"), ServerError, True),
        (answer(500, "the server was unable to answer in time", "ServerTimeout"), ServerTimeout, True),
        (answer(503, "no endpoints available", "ServiceUnavailable"), ServerError, True),
        (answer(504, "request timed out", "Timeout"), ServerTimeout, True),
    ],
)
def test_each_refusal_has_a_type(error: ClusterError, kind: type[ClusterError], transient: bool) -> None:
    assert type(error) is kind
    assert error.transient is transient
    assert str(error).startswith("apply Deployment a/b: ")


@pytest.mark.parametrize(
    ("words", "permission"),
    [
        (
            'configmaps "d" is forbidden: User "system:serviceaccount:x:y" cannot patch resource '
            '"configmaps" in API group "" in the namespace "farm"',
            "patch configmaps in the namespace farm",
        ),
        (
            'deployments.apps "d" is forbidden: User "u" cannot update resource "deployments/scale" in API '
            'group "apps" in the namespace "farm"',
            "update deployments.apps/scale in the namespace farm",
        ),
        (
            'nodes is forbidden: User "u" cannot list resource "nodes" in API group "" at the cluster scope',
            "list nodes",
        ),
    ],
)
def test_a_missing_permission_is_read_from_the_words(words: str, permission: str) -> None:
    error = answer(403, words, "Forbidden")
    assert isinstance(error, PermissionMissing)
    assert str(error.permission) == permission
    assert permission in str(error)
    assert "system:serviceaccount" not in str(error)


def test_a_namespace_that_is_being_deleted_is_told_apart() -> None:
    causes = [{"reason": "NamespaceTerminating", "message": "namespace a is being terminated"}]
    assert type(answer(403, "forbidden", "Forbidden", causes=causes)) is NamespaceTerminating


def test_an_unknown_path_is_a_kind_that_is_not_served() -> None:
    error = error_of(404, {}, b"404 page not found\n", "get GRPCRoute a/b")
    assert type(error) is KindMissing
    assert str(error) == "get GRPCRoute a/b: the cluster does not serve this kind"


def test_causes_name_their_fields() -> None:
    causes = [{"field": "spec.replicas", "message": "Invalid value: -1", "reason": "FieldValueInvalid"}]
    error = answer(422, "is invalid", "Invalid", causes=causes)
    assert isinstance(error, Invalid)
    assert [str(cause) for cause in error.causes] == ["spec.replicas: Invalid value: -1"]


def test_a_field_that_the_server_does_not_know_is_no_failure_of_the_server() -> None:
    words = (
        "failed to create typed patch object (a/b; apps/v1, Kind=Deployment): .spec.newer: field not declared"
    )
    error = answer(500, f"{words} in schema", "InternalError")
    assert isinstance(error, Invalid)
    assert not error.transient
    assert error.causes[0].field == "spec.newer"


@pytest.mark.parametrize("code", [429, 503])
def test_when_to_come_again_is_in_the_header_or_in_the_details(code: int) -> None:
    body = json.dumps({"kind": "Status", "details": {"retryAfterSeconds": 3}}).encode()
    assert error_of(code, {"Retry-After": "5"}, body, "get").retry_after == timedelta(seconds=5)
    assert error_of(code, {}, body, "get").retry_after == timedelta(seconds=3)
    assert error_of(code, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"", "get").retry_after is None


def test_an_answer_that_is_no_status_is_an_error_as_well() -> None:
    error = error_of(502, {}, b"<html>bad gateway</html>", "get Pod a/b")
    assert isinstance(error, ServerError)
    assert str(error) == "get Pod a/b: the API server answered 502"
