"""A farm pass: what it does to pods and marks when things go as they should not."""

from datetime import timedelta

import pytest
from buildgrid_operator.cluster.errors import Invalid
from buildgrid_operator.cluster.fleet_state import Requirement
from buildgrid_operator.reconcile.concerns import concerned
from buildgrid_operator.reconcile.work_queue import GONE

from tests.cluster.api.objects import changed
from tests.unit.operator.reconcile.farm_world import (
    KEY,
    NOON,
    FarmWorld,
    bot,
    mark,
    mark_of_a_person,
    session,
)

TWO = {"minBots": 2, "maxBots": 4}


@pytest.fixture
def world() -> FarmWorld:
    return FarmWorld()


def waiting(jobs: int) -> Requirement:
    return Requirement("", "hash", {"OSFamily": ("linux",)}, jobs, oldest_queued=NOON)


def test_what_is_asked_for_is_made_once(world: FarmWorld) -> None:
    world.fleet(scaling=TWO)
    world.hears().run()
    world.run()
    assert world.names() == [bot(1), bot(2)]
    assert world.conditions()["Ready"]["status"] == "True"


def test_a_fleet_that_fails_does_not_keep_the_others_from_their_turn(world: FarmWorld) -> None:
    world.fleet("a", "elsewhere", uid="eeeeeeee", scaling=TWO)
    world.fleet(scaling=TWO)
    world.api.down = {"elsewhere"}
    outcome = world.hears().run()
    assert world.names() == [bot(1), bot(2)]
    assert outcome.again_after is not None
    world.api.down = set()
    world.run()
    assert len(world.names()) == 4


def test_where_nothing_goes_well_the_queue_is_told(world: FarmWorld) -> None:
    world.fleet(scaling=TWO)
    world.api.down = {"farm"}
    with pytest.raises(Exception, match="a webhook fails"):
        world.hears().run()


def test_an_edit_that_the_api_server_refuses_can_be_taken_back(world: FarmWorld) -> None:
    world.fleet(scaling={"maxBots": 4})
    world.hears().run()
    world.api.refuses = Invalid("no such priority class")
    world.fleet(scaling={"maxBots": 4}, priorityClassName="none")
    world.run()
    assert world.conditions()["Ready"]["reason"] == "PodRefused"
    world.api.refuses = None
    world.fleet(scaling=TWO)
    world.run()
    assert world.names() == [bot(1), bot(2)]
    assert world.conditions()["Ready"]["status"] == "True"


def test_admission_that_takes_the_labels_away_is_told_and_no_pod_is_made(world: FarmWorld) -> None:
    world.api.relabels = True
    world.fleet(scaling=TWO)
    world.hears().run()
    world.run()
    assert world.names() == []
    assert "label" in world.conditions()["Ready"]["message"]


def test_after_a_restart_old_bots_do_not_make_starts_look_slow(world: FarmWorld) -> None:
    world.fleet(scaling={"maxBots": 50, "minBots": 1})
    world.hears().run()
    world.all_run().after(5 * 3600)
    world.restart()
    world.run()  # nothing was heard yet
    world.hears(session(bot(1), 1, connected=world.now), waiting(100)).run()
    assert "startSeconds" not in world.status()
    assert len(world.names()) == 50


def test_the_order_of_a_schedulers_instances_changes_nothing(world: FarmWorld) -> None:
    world.scheduler(instances=["a", "b"])
    world.fleet(scaling=TWO)
    world.hears().run()
    world.all_run().after(30)
    world.service.busy = {bot(1), bot(2)}
    busy = [session(bot(number), 1, instance="a") for number in (1, 2)]
    world.hears(*busy).run()
    world.scheduler(instances=["b", "a"])
    world.restart()
    world.hears(*busy).run()
    assert world.service.told == []
    assert world.api.deleted == []


def test_marks_of_a_namesake_that_is_gone_bind_nobody(world: FarmWorld) -> None:
    world.fleet(uid="bbbbbbbb", scaling={"minBots": 2, "maxBots": 2})
    world.run()  # nothing is known of the scheduler
    assert world.names() == [bot(1, "bbbbbbbb"), bot(2, "bbbbbbbb")]
    world.all_run().after(3600)
    finishing = (mark(bot(1), 1), session(bot(1), 1))
    world.hears(*finishing, *(session(name, uid="bbbbbbbb") for name in world.names())).run()
    assert world.service.told == [], "it still finishes what it has"
    world.hears(mark(bot(2)), session(bot(2), uid="bbbbbbbb")).run()
    assert world.service.told[0] == ("undrain of cluster-1/aaaaaaaa", (bot(2),))


def test_marks_that_cannot_be_taken_away_keep_no_fleet_from_its_turn(
    world: FarmWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fleet(uid="bbbbbbbb", scaling=TWO)

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(world.service, "undrain", fails)
    outcome = world.after(11).hears(mark(bot(2)), session(bot(2), uid="bbbbbbbb")).run()
    assert world.names() == [bot(1, "bbbbbbbb"), bot(2, "bbbbbbbb")]
    assert outcome.again_after is not None


def test_what_was_heard_before_the_clock_was_set_back_lets_nobody_go(world: FarmWorld) -> None:
    world.fleet(scaling=TWO)
    world.hears().run()
    world.all_run()
    world.fleet(scaling={"maxBots": 4, "idleTimeout": "0s"})
    world.after(3600).hears(session(bot(1)), session(bot(2)))
    world.after(-1800).run()
    assert world.conditions()["MetricsStale"]["status"] == "True"
    world.hears(session(bot(1)), session(bot(2))).run()
    assert world.conditions()["MetricsStale"]["status"] == "False"


def test_two_operators_make_no_more_pods_than_one(world: FarmWorld) -> None:
    world.fleet(scaling={"minBots": 10, "maxBots": 20})
    world.hears().run()
    other = FarmWorld()
    other.api.objects.update(world.api.objects)
    other.fleet(scaling={"minBots": 10, "maxBots": 20})
    other.hears().run()
    assert len(other.names()) == 10


def test_a_pod_whose_answer_was_lost_is_not_made_again(world: FarmWorld) -> None:
    world.fleet(scaling=TWO)
    world.api.loses_answers = 1
    world.hears().run()
    world.after(2).run()
    assert world.names() == [bot(1), bot(2)]


def test_the_time_to_drain_goes_by_the_clock_that_marks_go_by(world: FarmWorld) -> None:
    world.fleet(scaling=TWO, drain={"timeout": "30m"})
    world.hears().run()
    world.all_run().after(31 * 60)
    late = NOON + timedelta(seconds=5)  # the database's clock is half an hour behind
    world.hears(session(bot(1), 1), session(bot(2)), mark(bot(1), 1), database=late).run()
    assert world.api.deleted == []


def test_a_bot_whose_time_is_over_ends_soon_and_the_scheduler_knows_first(world: FarmWorld) -> None:
    world.fleet(scaling=TWO, drain={"timeout": "30m"})
    world.hears().run()
    world.all_run().after(31 * 60)
    world.service.busy = {bot(1)}
    world.hears(session(bot(1), 1), session(bot(2)), mark(bot(1), 1)).run()
    assert world.service.told[0] == ("disrupted", (bot(1),))
    assert world.api.deleted == [(bot(1), timedelta(seconds=30))]
    assert world.nobody.events[-1].type == "Warning"


@pytest.mark.parametrize("scaling", [{"dryRun": True}, {"paused": True}, {"pausedScaleIn": True}])
def test_a_fleet_that_is_paused_keeps_also_bots_of_no_use(world: FarmWorld, scaling: dict[str, bool]) -> None:
    world.fleet(scaling=TWO)
    world.hears().run()
    world.all_run().fleet(scaling={**TWO, **scaling})
    world.hears().run()
    world.after(3600).hears().run()
    assert world.api.deleted == []


def test_fleets_whose_pods_may_not_be_seen_are_left_alone_and_say_so(world: FarmWorld) -> None:
    world.blind = "the operator may not list pods"
    world.fleet(scaling=TWO)
    world.hears().run()
    assert world.names() == []
    ready = world.conditions()["Ready"]
    assert (ready["reason"], ready["message"]) == ("PermissionMissing", world.blind)


def test_a_fleet_of_a_namespace_that_is_not_let_in_says_what_to_add(world: FarmWorld) -> None:
    world.scheduler(allowedFleetNamespaces=["ci"])
    world.fleet("linux", "elsewhere", uid="eeeeeeee", scaling=TWO)
    world.hears().run()
    assert "allowedFleetNamespaces" in world.conditions(namespace="elsewhere")["Ready"]["message"]
    assert world.names() == []


def test_a_decision_stays_in_the_status_until_there_is_another(world: FarmWorld) -> None:
    world.fleet(scaling=TWO)
    world.hears().run()
    for _ in range(3):
        world.after(10).hears().run()
    assert "2 bots are created" in world.status()["lastDecision"]["message"]
    assert [event.reason for event in world.nobody.events if event.action == "Scaling"] == ["ScaledOut"]


@pytest.mark.parametrize(("mode", "words"), [("Auto", "remove it"), ("External", "an autoscaler says")])
def test_a_number_of_bots_that_is_told_is_not_to_be_removed_where_an_autoscaler_tells_it(
    world: FarmWorld, mode: str, words: str
) -> None:
    world.fleet(replicas=2, scaling={**TWO, "mode": mode})
    world.hears().run()
    active = world.conditions()["ScalingActive"]
    assert (active["reason"], words in active["message"]) == ("Pinned", True)


def test_bots_that_people_drain_may_be_evicted_once_they_run_nothing(world: FarmWorld) -> None:
    world.fleet(scaling=TWO)
    world.hears().run()
    world.all_run().after(30)
    first, second = session(bot(1)), session(bot(2), 1)
    drained = (mark_of_a_person(bot(1)), mark_of_a_person(bot(2), 1))
    world.hears(first, second, *drained).run()
    assert bot(1) not in world.protected() and bot(2) in world.protected()
    made = len(world.api.patched)
    world.after(10).hears(first, second, *drained).run()
    assert len(world.api.patched) == made == 1, "what is as it should be costs nothing"
    world.after(10).hears(first, session(bot(2)), mark_of_a_person(bot(2))).run()
    assert bot(1) in world.protected() and bot(2) not in world.protected()
    assert world.api.deleted == []


def test_nobody_is_let_go_of_while_it_is_not_known_who_is_drained(world: FarmWorld) -> None:
    world.fleet(scaling=TWO)
    world.hears().run()
    world.all_run().after(30)
    world.hears(session(bot(1)), session(bot(2)), mark_of_a_person(bot(1))).after(60).run()
    assert world.api.patched == []


def test_a_bot_that_is_let_go_is_not_waited_for_as_long_as_an_action_may_take(world: FarmWorld) -> None:
    world.fleet(scaling=TWO)
    world.hears().run()
    world.all_run().fleet(scaling={**TWO, "minBots": 1})
    world.hears(session(bot(1)), session(bot(2))).run()
    world.after(3600).hears(session(bot(1)), session(bot(2))).run()
    assert [grace for _, grace in world.api.deleted] == [timedelta(seconds=30)]


def test_bots_that_their_fleet_left_behind_finish_what_they_have_and_go(world: FarmWorld) -> None:
    world.fleet(scaling=TWO)
    world.hears().run()
    world.all_run().after(30)
    world.orphan()
    (left, *_) = world.api.pods()
    assert concerned(left, world.cache) == {KEY}
    world.hears(session(bot(1)), session(bot(2), 1)).run()
    assert world.service.told == [("when idle", (bot(2),)), ("if idle in ''", (bot(1),))]
    assert world.names() == [bot(2)], "what runs is finished"
    world.after(3600).hears(session(bot(2), 1), mark(bot(2), 1)).run()
    assert world.names() == [bot(2)]
    world.after(10).hears(session(bot(2)), mark(bot(2))).run()
    assert world.names() == []
    assert world.run() == GONE


def test_bots_that_were_left_behind_are_not_touched_while_the_scheduler_is_silent(world: FarmWorld) -> None:
    world.fleet(scaling=TWO)
    world.hears().run()
    world.all_run()
    world.orphan()
    world.after(60).run()
    assert (world.service.told, world.api.deleted) == ([], [])


def test_bots_of_a_namespace_that_the_scheduler_does_not_let_in_are_not_touched(world: FarmWorld) -> None:
    world.fleet("b", "elsewhere", uid="eeeeeeee", scaling=TWO)
    world.hears().run()
    world.all_run()
    world.orphan("b", "elsewhere")
    world.scheduler(allowedFleetNamespaces=[])
    assert world.hears().run() == GONE
    assert (world.service.told, world.api.deleted) == ([], [])
    world.scheduler()
    world.hears().run()
    assert world.names() == []


def test_a_pod_that_is_named_like_anothers_bot_has_nobody_marked(world: FarmWorld) -> None:
    world.fleet(scaling=TWO)
    world.hears().run()
    world.all_run()
    world.orphan()
    (left, *_) = world.api.pods()
    forged = changed(left, {"metadata.name": "another-11111-1", "metadata.uid": "forged"})
    assert concerned(forged, world.cache) == set()
