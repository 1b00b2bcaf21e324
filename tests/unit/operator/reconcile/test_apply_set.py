"""What may be taken for ours, and what is removed. The calls: tests/cluster/cluster/test_apply_set.py."""

from typing import Any

from buildgrid_operator.cluster.kinds import ObjectRef
from buildgrid_operator.desired.names import OWNER_UID_LABEL
from buildgrid_operator.reconcile.apply_set import APPLIED_HASH, is_of_predecessor, is_ours, prunable, stamp

Json = dict[str, Any]


def obj(name: str = "a", *, label: str | None = "u", owner: str | None = "u", **metadata: Any) -> Json:
    owners = [{"uid": owner, "controller": True}] if owner else []
    labels = {OWNER_UID_LABEL: label} if label else {}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": "n",
            "uid": f"uid-{name}",
            "labels": labels,
            "ownerReferences": owners,
            **metadata,
        },
    }


def pruned(*objects: Json, wanted: tuple[Json, ...] = ()) -> list[str]:
    live = {ObjectRef.of(o): o for o in objects}
    found = prunable([ObjectRef.of(o) for o in wanted], live, "u")
    return [ref.name for ref, _ in found]


def test_what_is_owned_and_not_wanted_is_removed() -> None:
    assert pruned(obj("a"), obj("b"), wanted=(obj("b"),)) == ["a"]


def test_what_only_inherited_the_label_is_not_removed() -> None:
    assert pruned(obj("pod", owner="replica-set"), obj("claim", owner=None)) == []


def test_what_belongs_to_another_owner_is_not_removed() -> None:
    assert pruned(obj("a", label="other"), obj("b", label=None)) == []


def test_what_is_being_deleted_is_not_deleted_again() -> None:
    assert pruned(obj("a", deletionTimestamp="2026-01-01T00:00:00Z")) == []


def test_the_hash_is_of_the_content_and_stands_beside_other_annotations() -> None:
    first = stamp({**obj(annotations={"x": "1"}), "data": {"a": "1"}})
    again = stamp({"data": {"a": "1"}, **obj(annotations={"x": "1"})})
    other = stamp({**obj(annotations={"x": "1"}), "data": {"a": "2"}})
    assert first["metadata"]["annotations"]["x"] == "1"
    assert first["metadata"]["annotations"][APPLIED_HASH] == again["metadata"]["annotations"][APPLIED_HASH]
    assert first["metadata"]["annotations"][APPLIED_HASH] != other["metadata"]["annotations"][APPLIED_HASH]


def test_stamping_leaves_the_original_as_it_is() -> None:
    original = obj()
    stamp(original)
    assert "annotations" not in original["metadata"]


def test_an_object_with_our_controller_is_ours() -> None:
    assert is_ours(obj(label=None), "u")


def test_an_object_with_another_controller_is_not_ours_whatever_its_labels() -> None:
    assert not is_ours(obj(owner="other", labels={"app.kubernetes.io/managed-by": "buildgrid-operator"}), "u")


def test_an_orphan_that_the_operator_made_once_is_adopted() -> None:
    assert is_ours(obj(owner=None, labels={"app.kubernetes.io/managed-by": "buildgrid-operator"}), "u")
    entry = {"manager": "buildgrid-operator", "operation": "Apply", "fieldsV1": {"f:data": {}}}
    assert is_ours(obj(owner=None, label=None, managedFields=[entry]), "u")


def test_what_a_deleted_owner_of_the_same_name_left_is_told_from_what_is_ours() -> None:
    def of(uid: str, name: str = "main") -> Json:
        owner = {"apiVersion": "x/v1", "kind": "Scheduler", "name": name, "uid": uid, "controller": True}
        return obj(ownerReferences=[owner])

    assert is_of_predecessor(of("old"), of("new"))
    assert not is_of_predecessor(of("new"), of("new"))
    assert not is_of_predecessor(of("old", "other"), of("new"))
    assert not is_of_predecessor(obj(owner=None), of("new"))


def test_an_object_of_somebody_else_is_not_ours() -> None:
    assert not is_ours(obj(owner=None, label=None), "u")
