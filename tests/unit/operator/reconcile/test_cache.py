"""The cache: of two versions the newer one counts, whoever tells of it, and in which order."""

from buildgrid_operator.cluster.client import Listing
from buildgrid_operator.cluster.kinds import CONFIG_MAP, POD, PROPERTY_SET, SCHEDULER, SERVICE
from buildgrid_operator.reconcile.cache import Cache

from tests.unit.operator.reconcile.objects import Json, obj, ref

MAIN = ref(SCHEDULER, "main")


def _scheduler(name: str = "main", property_set: str = "", version: int = 1) -> Json:
    spec = {"propertySetRef": {"name": property_set}} if property_set else {}
    return obj(SCHEDULER, name, version=version, spec=spec)


def test_what_is_put_is_there_and_the_same_again_is_no_news() -> None:
    cache = Cache()
    assert cache.put(_scheduler())
    assert not cache.put(_scheduler())
    assert cache.get(MAIN) == _scheduler()


def test_an_event_that_comes_late_does_not_undo_what_was_written() -> None:
    cache = Cache()
    cache.put(obj(CONFIG_MAP, "a", version=9, data={"x": "new"}))
    assert not cache.put(obj(CONFIG_MAP, "a", version=8, data={"x": "old"}))
    found = cache.get(ref(CONFIG_MAP, "a"))
    assert found is not None
    assert found["data"] == {"x": "new"}


def test_versions_are_numbers_not_texts() -> None:
    cache = Cache()
    cache.put(obj(CONFIG_MAP, "a", version=9))
    assert cache.put(obj(CONFIG_MAP, "a", version=10))


def test_what_was_deleted_is_not_brought_back_by_an_older_event() -> None:
    cache = Cache()
    cache.put(obj(CONFIG_MAP, "a", version=1))
    assert cache.remove(obj(CONFIG_MAP, "a", version=5))
    assert not cache.put(obj(CONFIG_MAP, "a", version=4))
    assert cache.get(ref(CONFIG_MAP, "a")) is None


def test_what_only_lost_its_labels_may_come_back() -> None:
    """A watch with a selector tells of it as deleted."""
    cache = Cache()
    cache.put(obj(CONFIG_MAP, "a", version=1))
    cache.remove(obj(CONFIG_MAP, "a", version=5))
    assert cache.put(obj(CONFIG_MAP, "a", version=6))


def test_a_namesake_outlives_the_deletion_of_the_one_before() -> None:
    cache = Cache()
    cache.put(obj(CONFIG_MAP, "a", version=7, uid="second"))
    assert not cache.remove(obj(CONFIG_MAP, "a", version=6, uid="first"))
    assert cache.get(ref(CONFIG_MAP, "a")) is not None


def test_children_and_pods_are_found_by_the_schedulers_label() -> None:
    cache = Cache()
    cache.put(obj(CONFIG_MAP, "a", scheduler="main"))
    cache.put(obj(POD, "b", scheduler="main"))
    cache.put(obj(POD, "a", scheduler="main"))
    cache.put(obj(SERVICE, "c", scheduler="other"))
    cache.put(obj(SERVICE, "d"))
    assert list(cache.children(MAIN)) == [ref(CONFIG_MAP, "a")]
    assert [pod["metadata"]["name"] for pod in cache.pods(MAIN)] == ["a", "b"]


def test_a_child_that_gets_another_label_changes_hands() -> None:
    cache = Cache()
    cache.put(obj(SERVICE, "a", scheduler="main"))
    cache.put(obj(SERVICE, "a", scheduler="other", version=2))
    assert cache.children(MAIN) == {}
    assert list(cache.children(ref(SCHEDULER, "other"))) == [ref(SERVICE, "a")]


def test_a_list_shows_what_went_unseen_and_tells_of_all_news() -> None:
    cache = Cache()
    cache.put(obj(SERVICE, "same", version=1))
    cache.put(obj(SERVICE, "changed", version=2))
    cache.put(obj(SERVICE, "gone", version=3))
    cache.put(obj(CONFIG_MAP, "another-kind", version=3))
    listing = Listing((obj(SERVICE, "same", version=1), obj(SERVICE, "changed", version=8)), "10")
    news = cache.replace(SERVICE, "farm", listing)
    assert sorted(each["metadata"]["name"] for each in news) == ["changed", "gone"]
    assert cache.get(ref(SERVICE, "gone")) is None
    assert cache.get(ref(CONFIG_MAP, "another-kind")) is not None


def test_what_was_made_after_a_list_is_not_dropped_by_it() -> None:
    cache = Cache()
    cache.put(obj(SERVICE, "new", version=11))
    assert cache.replace(SERVICE, None, Listing((), "10")) == []
    assert cache.get(ref(SERVICE, "new")) is not None


def test_a_list_of_one_namespace_says_nothing_of_others() -> None:
    cache = Cache()
    cache.put(obj(SERVICE, "here", version=1))
    assert cache.replace(SERVICE, "elsewhere", Listing((), "10")) == []


def test_users_of_a_property_set_are_known_before_it_exists() -> None:
    cache = Cache()
    cache.put(_scheduler("b", "usual"))
    cache.put(_scheduler("a", "usual"))
    cache.put(_scheduler("c", "other"))
    usual = ref(PROPERTY_SET, "usual")
    assert [user.name for user in cache.users(usual)] == ["a", "b"]
    cache.put(_scheduler("a", "other", version=2))
    assert [user.name for user in cache.users(usual)] == ["b"]
    cache.remove(_scheduler("b", "usual", version=3))
    assert cache.users(usual) == []
    assert cache.used_by(ref(SCHEDULER, "a")) == ref(PROPERTY_SET, "other")


def test_a_spec_of_any_shape_has_a_reference_or_none() -> None:
    cache = Cache()
    for number, spec in enumerate(("text", {"propertySetRef": 3}, {"propertySetRef": {"name": 4}}, None)):
        assert cache.put(obj(SCHEDULER, f"odd-{number}", spec=spec))
        assert cache.used_by(ref(SCHEDULER, f"odd-{number}")) is None


def test_managed_fields_are_kept_only_where_somebody_looks_at_them() -> None:
    cache = Cache()
    for kind in (POD, SERVICE):
        found = obj(kind, "a")
        found["metadata"]["managedFields"] = [{"manager": "x"}]
        cache.put(found)
    pod, service = cache.get(ref(POD, "a")), cache.get(ref(SERVICE, "a"))
    assert pod is not None
    assert service is not None
    assert "managedFields" not in pod["metadata"]
    assert "managedFields" in service["metadata"]
