"""The calls of the API server that the operator makes. Synchronous: called from threads."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from urllib3 import exceptions as http

from buildgrid_operator.cluster.answers import error_of
from buildgrid_operator.cluster.errors import Conflict, Expired, Invalid, KindMissing, NotFound, Unreachable
from buildgrid_operator.cluster.kinds import SERVICE_ACCOUNT, Kind, Manifest, ObjectRef, kind_of

FIELD_MANAGER = "buildgrid-operator"
"""Who owns what the operator applies."""
STATUS_MANAGER = "buildgrid-operator-status"
"""Who owns the status that the operator writes."""
PAGE_SIZE = 500
CONNECT_TIMEOUT = timedelta(seconds=5)
TIMEOUT = timedelta(seconds=30)
_LIST_ATTEMPTS = 3

Propagation = Literal["Background", "Foreground", "Orphan"]


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was made, for metrics. `code` is the HTTP status, 0 when there was no answer."""

    verb: str
    kind: str
    code: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Listing:
    """Objects as of one resourceVersion."""

    items: tuple[Manifest, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class _Request:
    verb: str
    method: str
    kind: Kind
    path: str
    about: str
    body: Any = None
    content_type: str = "application/json"
    query: tuple[tuple[str, str], ...] = ()


class Client:
    """All methods raise a ClusterError of the kind that fits, after one attempt, within `timeout`."""

    def __init__(
        self,
        api: client.ApiClient,
        *,
        observe: Callable[[Call], None] = lambda call: None,
        timeout: timedelta = TIMEOUT,
    ) -> None:
        """`observe` is told of every call, on the thread that makes it."""
        self._api = api
        self._observe = observe
        self._timeout = timeout

    def within(self, timeout: timedelta) -> "Client":
        """The same with another timeout for each call; the connections are shared."""
        return Client(self._api, observe=self._observe, timeout=timeout)

    def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest:
        """One object. Raises NotFound."""
        return self._object(
            _Request("get", "GET", kind, kind.path(namespace, name), _show(kind, namespace, name))
        )

    def find(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        """One object, or None."""
        try:
            return self.get(kind, namespace, name)
        except NotFound:
            return None

    def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        page_size: int = PAGE_SIZE,
    ) -> Listing:
        """All objects of a namespace, or of all; `labels` and `fields` are selectors. Read page by page."""
        for attempt in range(1, _LIST_ATTEMPTS + 1):
            try:
                return self._list(kind, namespace, labels, fields, page_size)
            except Expired:
                # The pages took longer than etcd keeps what they are a part of.
                if attempt == _LIST_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _list(self, kind: Kind, namespace: str | None, labels: str, fields: str, page_size: int) -> Listing:
        items: list[Manifest] = []
        selectors = [("labelSelector", labels), ("fieldSelector", fields)]
        query = [("limit", str(page_size)), *((name, value) for name, value in selectors if value)]
        token = ""
        while True:
            page = (*query, ("continue", token)) if token else tuple(query)
            about = f"{kind} in {namespace}" if namespace else str(kind)
            answer = self._object(_Request("list", "GET", kind, kind.path(namespace), about, query=page))
            # Items of built-in kinds come without the two.
            items += [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in answer["items"]]
            token = answer["metadata"].get("continue") or ""
            if not token:
                return Listing(tuple(items), answer["metadata"].get("resourceVersion") or "")

    def create(self, obj: Mapping[str, Any], *, dry_run: bool = False) -> Manifest:
        """Make an object. Raises AlreadyExists. `dry_run`: only have it checked, with admission."""
        kind = kind_of(obj)
        namespace = obj["metadata"].get("namespace")
        name = obj["metadata"].get("name") or obj["metadata"].get("generateName", "")
        query = (("fieldManager", FIELD_MANAGER), *_dry(dry_run))
        request = _Request(
            "create", "POST", kind, kind.path(namespace), _show(kind, namespace, name), obj, query=query
        )
        return self._object(request)

    def replace(self, obj: Mapping[str, Any]) -> Manifest:
        """Write an object as a whole. With metadata.resourceVersion: Conflict unless it is still the one."""
        ref = ObjectRef.of(obj)
        query = (("fieldManager", FIELD_MANAGER),)
        return self._object(_Request("update", "PUT", ref.kind, _path(ref), str(ref), obj, query=query))

    def apply(
        self,
        obj: Mapping[str, Any],
        *,
        manager: str = FIELD_MANAGER,
        force: bool = True,
        dry_run: bool = False,
        subresource: str = "",
    ) -> Manifest:
        """Server-side apply: the fields of `obj` become as they are there, and `manager` owns them.

        What the manager applied before and now leaves out is removed. With `force`, fields of others are
        taken over; without, they are a Conflict. An apply that changes nothing writes nothing.
        """
        ref = ObjectRef.of(obj)
        query = (("fieldManager", manager), ("force", "true" if force else "false"), *_dry(dry_run))
        return self._object(
            _Request(
                "apply",
                "PATCH",
                ref.kind,
                _path(ref, subresource),
                str(ref),
                obj,
                "application/apply-patch+yaml",
                query,
            )
        )

    def patch_status(self, ref: ObjectRef, status: Mapping[str, Any], *, resource_version: str) -> Manifest:
        """Write the whole status of an object as it was read. Raises NotFound, or Conflict if it changed.

        By server-side apply under a manager of its own, not by a merge patch: what is left out is removed
        without a null for it, conditions of other programs stay (the list is one by type), and a status that
        is as it was is not written. The version keeps a status that was computed for a spec, or an object, of
        before from being shown for the one of now; the API server does not compare UIDs here.
        """
        body = {
            "apiVersion": ref.kind.api_version,
            "kind": ref.kind.kind,
            "metadata": {"name": ref.name, "namespace": ref.namespace, "resourceVersion": resource_version},
            "status": status,
        }
        return self.apply(body, manager=STATUS_MANAGER, subresource="status")

    def patch_json(
        self,
        ref: ObjectRef,
        operations: Sequence[Mapping[str, Any]],
        *,
        resource_version: str,
        subresource: str = "",
    ) -> Manifest:
        """Apply a JSON patch to the very object that was read; Conflict when it has changed since."""
        test = {"op": "test", "path": "/metadata/resourceVersion", "value": resource_version}
        query = (("fieldManager", FIELD_MANAGER),)
        request = _Request(
            "patch",
            "PATCH",
            ref.kind,
            _path(ref, subresource),
            str(ref),
            [test, *operations],
            "application/json-patch+json",
            query,
        )
        try:
            return self._object(request)
        except Invalid as error:
            # A test that does not hold is told so, without words of its own.
            if error.causes or error.code != 422 or "is invalid" in str(error):
                raise
            raise Conflict(
                f"patch {ref}: it has changed since it was read", code=409, reason="Conflict"
            ) from None

    def patch_merge(self, ref: ObjectRef, patch: Mapping[str, Any], *, subresource: str = "") -> Manifest:
        """Apply a JSON merge patch: null removes, lists are replaced."""
        query = (("fieldManager", FIELD_MANAGER),)
        path = _path(ref, subresource)
        content_type = "application/merge-patch+json"
        return self._object(_Request("patch", "PATCH", ref.kind, path, str(ref), patch, content_type, query))

    def delete(
        self,
        ref: ObjectRef,
        *,
        uid: str | None = None,
        propagation: Propagation = "Background",
        grace: timedelta | None = None,
        dry_run: bool = False,
    ) -> bool:
        """Delete an object; False when it is gone already. With `uid`: Conflict for a namesake."""
        body: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        if grace is not None:
            body["gracePeriodSeconds"] = int(grace.total_seconds())
        path = _path(ref)
        try:
            self._send(_Request("delete", "DELETE", ref.kind, path, str(ref), body, query=_dry(dry_run)))
        except NotFound:
            return False
        return True

    def verbs(self, kind: Kind) -> dict[str, frozenset[str]]:
        """What may be done with each resource of a kind's API version, by plural: discovery tells.

        Empty where the API server does not know that version. A CRD that is being deleted has no "create".
        """
        path = kind.path().rpartition("/")[0]
        try:
            found = self._object(_Request("get", "GET", kind, path, f"the resources of {kind.api_version}"))
        except KindMissing:
            return {}
        return {each["name"]: frozenset(each["verbs"]) for each in found["resources"]}

    def can_be_made(self, kind: Kind) -> bool:
        """Whether there may be new objects of a kind."""
        return "create" in self.verbs(kind).get(kind.plural, ())

    def request_token(
        self, namespace: str, service_account: str, audience: str, lifetime: timedelta
    ) -> tuple[str, datetime]:
        """A token of a ServiceAccount for an audience, and when it expires (authentication.k8s.io/v1)."""
        ref = ObjectRef(SERVICE_ACCOUNT, namespace, service_account)
        spec = {"audiences": [audience], "expirationSeconds": int(lifetime.total_seconds())}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        request = _Request("create", "POST", ref.kind, _path(ref, "token"), f"a token of {ref}", body)
        status = self._object(request)["status"]
        return str(status["token"]), datetime.fromisoformat(status["expirationTimestamp"])

    def _object(self, request: _Request) -> Manifest:
        body = self._send(request)
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Unreachable(
                f"{request.verb} {request.about}: the answer is not an object; is it the API server?"
            )
        return answer

    def _send(self, request: _Request) -> bytes:
        about = f"{request.verb} {request.about}"
        code = 0
        start = time.monotonic()
        try:
            headers = {"Accept": "application/json"}
            if request.body is not None:
                headers["Content-Type"] = request.content_type
            # The API server gives up when we do, so that nothing is done after a retry was begun.
            query = [*request.query, ("timeout", f"{max(1, int(self._timeout.total_seconds()))}s")]
            call = self._api.param_serialize(
                request.method,
                request.path,
                query_params=query,
                header_params=headers,
                body=request.body,
                auth_settings=["BearerToken"],
            )
            limits = (min(CONNECT_TIMEOUT, self._timeout).total_seconds(), self._timeout.total_seconds())
            answer = self._api.call_api(*call, _request_timeout=limits)
            body: bytes = answer.read()  # type: ignore[no-untyped-call]
            code = answer.status
            answer_headers = answer.headers
        except http.TimeoutError as error:
            raise Unreachable(f"{about}: no answer within {self._timeout.total_seconds():g} s") from error
        except (http.HTTPError, OSError) as error:
            raise Unreachable(f"{about}: the API server cannot be reached ({_words(error)})") from error
        except ApiException as error:
            # Only a failed handshake is raised here; answers are ours to look at.
            raise Unreachable(f"{about}: the API server cannot be reached ({error.reason})") from error
        except ConfigException as error:
            raise Unreachable(f"{about}: the operator's credentials cannot be read ({error})") from error
        finally:
            self._observe(Call(request.verb, request.kind.kind, code, time.monotonic() - start))
        if not 200 <= code <= 299:
            raise error_of(code, answer_headers, body, about)
        return body


def _dry(dry_run: bool) -> tuple[tuple[str, str], ...]:
    return (("dryRun", "All"),) if dry_run else ()


def _path(ref: ObjectRef, subresource: str = "") -> str:
    return ref.kind.path(ref.namespace, ref.name, subresource)


def _show(kind: Kind, namespace: str | None, name: str) -> str:
    return str(ObjectRef(kind, namespace or "", name))


def _words(error: Exception) -> str:
    """What the innermost error says, which urllib3 wraps."""
    inner = next((part for part in error.args if isinstance(part, Exception)), None)
    return _words(inner) if inner is not None else (str(error) or type(error).__name__).splitlines()[0]
