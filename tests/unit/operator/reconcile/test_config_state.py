"""Which replicas have the configuration."""

from buildgrid_operator.cluster.fleet_state import FleetState, Replica
from buildgrid_operator.reconcile.config_state import config_state
from buildgrid_operator.reconcile.holding import Hold
from buildgrid_operator.status.scheduler_conditions import Orphans

NEW, OLD = "new", "old"


def _state(*replicas: Replica) -> FleetState:
    return FleetState(replicas)


def _replica(host: str, config_hash: str = NEW, refused_hash: str = "", refused_error: str = "") -> Replica:
    return Replica(f"id-{host}-{config_hash}", host, "1", config_hash, refused_hash, refused_error)


def test_all_that_serve_have_it() -> None:
    found = config_state(NEW, {"a", "b"}, _state(_replica("a"), _replica("b")))
    assert (found.ready, found.configured, found.errors) == (2, 2, ())


def test_one_that_has_the_one_before_does_not_count() -> None:
    found = config_state(NEW, {"a", "b"}, _state(_replica("a"), _replica("b", OLD)))
    assert (found.ready, found.configured) == (2, 1)


def test_one_that_ends_or_starts_does_not_count_either_way() -> None:
    found = config_state(NEW, {"a"}, _state(_replica("a"), _replica("ends", OLD), _replica("starts")))
    assert (found.ready, found.configured) == (1, 1)


def test_of_a_pod_that_was_restarted_the_newest_process_counts() -> None:
    found = config_state(NEW, {"a"}, _state(_replica("a", OLD), _replica("a", NEW)))
    assert found.configured == 1


def test_a_refusal_of_this_configuration_is_told() -> None:
    replica = _replica("a", OLD, refused_hash=NEW, refused_error="is wrong")
    assert config_state(NEW, {"a"}, _state(replica)).errors == (("a", "is wrong"),)


def test_a_refusal_of_an_earlier_one_is_not() -> None:
    replica = _replica("a", OLD, refused_hash="earlier", refused_error="was wrong")
    assert config_state(NEW, {"a"}, _state(replica)).errors == ()


def test_a_hold_is_told_before_all_else() -> None:
    orphans = Orphans(1, 2, (("{}", 2),))
    found = config_state(NEW, {"a"}, None, unreachable="no", hold=Hold(orphans=orphans))
    assert found.orphans == orphans
    assert (
        config_state(NEW, {"a"}, None, unreachable="no", hold=Hold(unreachable="held")).unreachable == "held"
    )
