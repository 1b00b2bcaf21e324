"""Which pods count, and which need to hear of a configuration."""

from typing import Any

from buildgrid_operator.cluster.kinds import DEPLOYMENT, POD
from buildgrid_operator.desired.names import CONFIG_HASH
from buildgrid_operator.reconcile.pods import is_ready, of_component, unaware
from buildgrid_operator.reconcile.reading import is_autoscaled

from tests.unit.operator.reconcile.objects import Json, obj


def _pod(name: str, component: str = "scheduler", phase: str = "Running", **metadata: Any) -> Json:
    found = obj(POD, name, status={"phase": phase})
    found["metadata"]["labels"]["app.kubernetes.io/component"] = component
    found["metadata"] |= metadata
    return found


def _names(pods: list[Json]) -> list[str]:
    return [pod["metadata"]["name"] for pod in pods]


def test_pods_that_end_or_have_ended_do_not_count() -> None:
    pods = [
        _pod("runs"),
        _pod("waits", phase="Pending"),
        _pod("stores", component="storage"),
        _pod("ends", deletionTimestamp="2026-01-01T00:00:00Z"),
        _pod("evicted", phase="Failed"),
        _pod("done", phase="Succeeded"),
    ]
    assert _names(of_component(pods, "scheduler")) == ["runs", "waits"]


def test_a_pod_is_ready_when_its_condition_says_so() -> None:
    pod = _pod("a")
    assert not is_ready(pod)
    pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    assert not is_ready(pod)
    pod["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    assert is_ready(pod)


def test_pods_are_told_of_a_configuration_once() -> None:
    pods = [
        _pod("new"),
        _pod("old", annotations={CONFIG_HASH: "1"}),
        _pod("told", annotations={CONFIG_HASH: "2"}),
    ]
    assert _names(unaware(pods, "2")) == ["new", "old"]


def _scaled(manager: str, subresource: str = "scale") -> Json:
    found = obj(DEPLOYMENT, "a")
    entry = {"manager": manager, "subresource": subresource, "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    found["metadata"]["managedFields"] = [entry]
    return found


def test_an_autoscaler_is_told_from_a_person_who_scales() -> None:
    assert is_autoscaled(_scaled("kube-controller-manager"))
    assert not is_autoscaled(_scaled("kubectl"))
    assert not is_autoscaled(_scaled("kube-controller-manager", "status"))
    assert not is_autoscaled(obj(DEPLOYMENT, "a"))
    assert not is_autoscaled(None)
