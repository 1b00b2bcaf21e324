"""Who is woken for which job: scenarios."""

import pytest
from buildgrid_scheduler.assigner.waiting import Arrival, WaitingBots

from tests.unit.assigner.calls import Call, arrival, pairs


@pytest.fixture
def waiting() -> WaitingBots:
    return WaitingBots()


def hold(
    waiting: WaitingBots, *names: str, offer: str = "", instance: str = "", capacity_class: str = ""
) -> list[Call]:
    calls = [Call(name, pairs(offer), instance, capacity_class=capacity_class) for name in names]
    for call in calls:
        assert waiting.hold(call) is None
    return calls


def names(calls: object) -> list[str]:
    assert isinstance(calls, list)
    return [call.session_name for call in calls]


# --- holding


def test_a_later_call_of_a_session_replaces_the_older_which_is_to_be_answered(waiting: WaitingBots) -> None:
    (first,) = hold(waiting, "bot")
    assert waiting.hold(Call("bot")) is first
    assert waiting.held == 1
    assert not waiting.release(first), "it is not held any more"
    assert waiting.held == 1


def test_a_later_call_may_offer_something_else(waiting: WaitingBots) -> None:
    hold(waiting, "bot", offer="arm")
    waiting.hold(Call("bot", pairs("x86")))
    waiting.arrived([arrival("arm")], heard=True)
    assert waiting.plan([]) == []
    waiting.arrived([arrival("x86")], heard=True)
    assert names(waiting.plan([])) == ["bot"]


def test_a_call_that_is_released_while_it_is_asked_for_is_not_held_afterwards(waiting: WaitingBots) -> None:
    (call,) = hold(waiting, "bot")
    assert waiting.plan([arrival()]) == [call]
    assert not waiting.release(call)
    assert waiting.hold(call) is call
    assert waiting.held == 0


def test_a_call_that_is_released_while_it_is_held_is_the_callers_to_answer(waiting: WaitingBots) -> None:
    (call,) = hold(waiting, "bot")
    assert waiting.release(call)
    assert not waiting.release(call)
    assert waiting.plan([arrival()]) == []


def test_a_call_that_is_not_to_be_woken_for_work_is_held_all_the_same(waiting: WaitingBots) -> None:
    drained = Call("drained", wakes_for=None)
    assert waiting.hold(drained) is None
    assert waiting.held == 1
    assert waiting.plan([arrival()]) == []
    waiting.arrived([arrival()], heard=True)
    assert waiting.plan([]) == []
    assert waiting.take(["drained"]) == [drained], "it is asked for by name"
    assert waiting.hold(drained) is None
    assert waiting.take_all() == [drained]
    assert waiting.hold(drained) is None
    assert waiting.release(drained)
    assert waiting.held == 0


def test_a_call_that_is_to_be_woken_again_is(waiting: WaitingBots) -> None:
    drained, call = Call("bot", wakes_for=None), Call("bot", pairs("a"))
    waiting.hold(drained)
    assert waiting.hold(call) is drained
    assert waiting.held == 1
    assert waiting.plan([arrival("a")]) == [call]


def test_holding_the_same_call_again_answers_nobody(waiting: WaitingBots) -> None:
    (call,) = hold(waiting, "bot")
    assert waiting.hold(call) is None
    assert waiting.held == 1


def test_calls_are_taken_by_session_and_all_at_a_shutdown(waiting: WaitingBots) -> None:
    one, two, three = hold(waiting, "one", "two", "three")
    assert waiting.take(["two", "unknown"]) == [two]
    assert waiting.take(["two"]) == []
    assert waiting.take_all() == [one, three]
    assert waiting.held == 0
    assert waiting.plan([arrival()]) == []


def test_a_poke_that_misses_a_call_because_it_is_asked_for_is_not_forgotten(waiting: WaitingBots) -> None:
    call = Call("bot")
    waiting.asking(["bot"])
    assert waiting.take(["bot"]) == []
    assert waiting.hold(call) is call, "it has to be asked for again"
    waiting.asking(["bot"])
    assert waiting.hold(call) is None


def test_a_poke_of_a_session_that_is_elsewhere_is_not_kept(waiting: WaitingBots) -> None:
    waiting.asking(["other"])
    waiting.take(["bot"])
    assert waiting.hold(Call("bot")) is None


# --- waking


def test_one_job_wakes_one_of_a_thousand_bots(waiting: WaitingBots) -> None:
    hold(waiting, *(f"bot {n}" for n in range(1000)))
    assert len(waiting.plan([arrival()])) == 1
    assert waiting.held == 999


def test_the_bot_that_waits_longest_goes_first(waiting: WaitingBots) -> None:
    hold(waiting, "a", "b", "c")
    assert names(waiting.plan([arrival(), arrival()])) == ["a", "b"]
    hold(waiting, "a")
    assert names(waiting.plan([arrival(), arrival()])) == ["c", "a"]


def test_as_many_bots_are_woken_as_jobs_are_known_whoever_told(waiting: WaitingBots) -> None:
    hold(waiting, *(f"bot {n}" for n in range(10)))
    waiting.arrived([arrival(), arrival()], heard=True)
    assert len(waiting.plan([arrival()])) == 3


def test_a_bot_is_woken_once_for_several_jobs_that_it_may_take(waiting: WaitingBots) -> None:
    hold(waiting, "bot", offer="a b")
    assert names(waiting.plan([arrival("a"), arrival("b"), arrival()])) == ["bot"]


def test_bots_that_can_not_take_the_job_stay_held(waiting: WaitingBots) -> None:
    hold(waiting, "small", offer="small")
    hold(waiting, "elsewhere", offer="large", instance="other")
    hold(waiting, "large", offer="large extra")
    assert names(waiting.plan([arrival("large")])) == ["large"]
    assert waiting.plan([arrival("large")]) == []
    assert waiting.held == 2


def test_bots_of_several_kinds_share_the_jobs_that_all_may_take(waiting: WaitingBots) -> None:
    hold(waiting, "a", offer="x")
    hold(waiting, "b", offer="x y")
    hold(waiting, "c")
    assert sorted(names(waiting.plan([arrival()] * 3))) == ["a", "b", "c"]


def test_what_was_planned_is_not_planned_again(waiting: WaitingBots) -> None:
    hold(waiting, "a", "b")
    waiting.arrived([arrival()], heard=True)
    assert len(waiting.plan([])) == 1
    assert waiting.plan([]) == []


def test_what_was_planned_in_vain_is_planned_again(waiting: WaitingBots) -> None:
    (call,) = hold(waiting, "a")
    waiting.arrived([arrival()], heard=True)
    assert waiting.plan([]) == [call]
    waiting.hold(call)
    waiting.plan_again()
    assert waiting.unplanned
    assert waiting.plan([]) == [call]
    assert not waiting.unplanned


# --- what is known to wait


def look(waiting: WaitingBots, *found: Arrival) -> bool:
    """A look at the queue that finds these; nothing happens meanwhile."""
    return waiting.some_wait(found, waiting.looking())


def settle(waiting: WaitingBots, marks: dict[str, int], *, asked: int, chosen: int, got: list[str]) -> bool:
    return waiting.settle("", asked=asked, chosen=chosen, got=got, marks=marks)


def test_a_bot_asks_for_all_that_it_may_take_and_for_nothing_else(waiting: WaitingBots) -> None:
    waiting.arrived([arrival("a"), arrival("a b"), arrival("c"), arrival("a", "other")], heard=True)
    assert waiting.candidates("", pairs("a b")) == {"a", "a b"}
    assert waiting.candidates("", pairs("")) == set()
    waiting.arrived([arrival(""), arrival("b")], heard=False)
    assert waiting.candidates("", pairs("a b")) == {"", "a", "b", "a b"}
    assert waiting.candidates("other", pairs("a b")) == {"a"}


def test_work_that_is_exhausted_is_forgotten(waiting: WaitingBots) -> None:
    waiting.arrived([arrival("a")] * 5, heard=True)
    marks = waiting.heard("", {"a"})
    assert not settle(waiting, marks, asked=2, chosen=0, got=[])
    assert waiting.candidates("", pairs("a")) == set()


def test_work_of_which_all_was_claimed_is_forgotten(waiting: WaitingBots) -> None:
    waiting.arrived([arrival("a")] * 2, heard=True)
    marks = waiting.heard("", {"a"})
    assert not settle(waiting, marks, asked=2, chosen=2, got=["a", "a"])
    assert waiting.candidates("", pairs("a")) == set()


def test_work_of_which_some_was_claimed_is_still_known(waiting: WaitingBots) -> None:
    waiting.arrived([arrival("a")] * 3, heard=True)
    settle(waiting, waiting.heard("", {"a"}), asked=1, chosen=1, got=["a"])
    assert waiting.candidates("", pairs("a")) == {"a"}


def test_an_arrival_heard_during_a_claim_survives_it(waiting: WaitingBots) -> None:
    waiting.arrived([arrival("a")], heard=True)
    hold(waiting, "other", offer="a")
    waiting.plan([])
    marks = waiting.heard("", {"a"})
    waiting.arrived([arrival("a")], heard=True)
    settle(waiting, marks, asked=5, chosen=1, got=["a"])
    assert waiting.candidates("", pairs("a")) == {"a"}
    assert waiting.unplanned is bool(waiting.held)


def test_a_claim_that_others_were_faster_at_asks_again(waiting: WaitingBots) -> None:
    waiting.arrived([arrival("a")], heard=True)
    waiting.plan([])
    marks = waiting.heard("", {"a"})
    assert settle(waiting, marks, asked=3, chosen=2, got=["a"])
    hold(waiting, "bot", offer="a")
    assert names(waiting.plan([])) == ["bot"]


def test_work_found_in_the_queue_is_of_unknown_number_and_asked_for_until_it_is_exhausted(
    waiting: WaitingBots,
) -> None:
    hold(waiting, "a", "b", "c")
    assert look(waiting, arrival())
    for _ in range(2):
        (call,) = waiting.plan([])
        assert settle(waiting, waiting.heard("", {""}), asked=1, chosen=1, got=[""])
        assert waiting.take([call.session_name]) == []
    waiting.plan([])
    assert not settle(waiting, waiting.heard("", {""}), asked=1, chosen=0, got=[])
    assert waiting.candidates("", frozenset()) == set()


def test_finding_work_that_is_known_already_lets_bots_ask_for_it(waiting: WaitingBots) -> None:
    waiting.arrived([arrival()], heard=True)
    waiting.plan([])
    assert not look(waiting, arrival()), "nobody is held"
    hold(waiting, "bot")
    assert look(waiting, arrival())
    assert names(waiting.plan([])) == ["bot"]


def test_a_claim_in_one_instance_says_nothing_about_another(waiting: WaitingBots) -> None:
    waiting.arrived([arrival("a"), arrival("a", "other")], heard=True)
    settle(waiting, waiting.heard("", {"a"}), asked=1, chosen=0, got=[])
    assert waiting.candidates("other", pairs("a")) == {"a"}


def test_kinds_of_bots_that_came_and_went_are_forgotten_and_known_again_when_they_come(
    waiting: WaitingBots,
) -> None:
    waiting.arrived([arrival("x 1")], heard=True)
    for n in range(10_050):
        waiting.candidates("", pairs(f"x {n}"))
    assert waiting.candidates("", pairs("x 1")) == {"x 1"}
    waiting.arrived([arrival("x 2")], heard=True)
    assert waiting.candidates("", pairs("x 2")) == {"x 2"}


def test_a_job_that_is_left_by_the_bot_that_was_woken_for_it_wakes_the_next(waiting: WaitingBots) -> None:
    """Both jobs are told of, and one bot can take either: it takes the one that the other bot could not."""
    hold(waiting, "either", offer="a b")
    hold(waiting, "only a", offer="a")
    waiting.arrived([arrival("a")], heard=True)
    assert names(waiting.plan([])) == ["either"]
    waiting.arrived([arrival("b")], heard=True)
    assert waiting.plan([]) == []
    marks = waiting.heard("", {"a", "b"})
    assert settle(waiting, marks, asked=1, chosen=1, got=["b"])
    assert names(waiting.plan([])) == ["only a"]


def test_a_backlog_that_no_held_bot_could_take_is_not_asked_for_again_and_again(waiting: WaitingBots) -> None:
    hold(waiting, "other", offer="b")
    waiting.arrived([arrival("a")] * 100, heard=True)
    assert waiting.plan([]) == []
    assert not settle(waiting, waiting.heard("", {"a"}), asked=1, chosen=1, got=["a"])
    assert not waiting.unplanned


# --- what is known, and is not there any more


def test_work_that_a_look_does_not_find_is_forgotten_whoever_took_it(waiting: WaitingBots) -> None:
    waiting.arrived([arrival("never asked for here"), arrival("a")], heard=True)
    look(waiting, arrival("a"))
    assert waiting.candidates("", pairs("never asked for here a")) == {"a"}


def test_what_arrives_while_a_look_is_under_way_is_not_forgotten(waiting: WaitingBots) -> None:
    for heard in (True, False):
        waiting.arrived([arrival("a")], heard=heard)
        began = waiting.looking()
        waiting.arrived([arrival("a"), arrival("b")], heard=heard)
        waiting.some_wait([], began)
        assert waiting.candidates("", pairs("a b")) == {"a", "b"}


def test_a_look_says_nothing_of_another_instance_that_has_the_same_hash(waiting: WaitingBots) -> None:
    waiting.arrived([arrival("a"), arrival("a", "other")], heard=True)
    look(waiting, arrival("a", "other"))
    assert waiting.candidates("", pairs("a")) == set()
    assert waiting.candidates("other", pairs("a")) == {"a"}


# --- capacity classes


def found_only_what_avoids(waiting: WaitingBots, capacity_class: str, needs: str = "") -> bool:
    """A bot of this class asked, and was left with jobs that wait for others."""
    return waiting.settle(
        "",
        asked=1,
        chosen=0,
        got=[],
        marks=waiting.heard("", {needs}),
        capacity_class=capacity_class,
        avoided=[needs],
    )


def test_a_job_that_avoids_the_class_that_was_woken_wakes_a_bot_of_another_at_once(
    waiting: WaitingBots,
) -> None:
    hold(waiting, "spot", capacity_class="spot")
    waiting.arrived([arrival()], heard=True)
    assert names(waiting.plan([])) == ["spot"]
    hold(waiting, "other spot", capacity_class="spot")
    hold(waiting, "firm", capacity_class="on-demand")
    assert found_only_what_avoids(waiting, "spot"), "it is worth asking again"
    assert names(waiting.plan([])) == ["firm"]


def test_a_job_that_everybody_here_avoids_is_neither_forgotten_nor_asked_for_without_end(
    waiting: WaitingBots,
) -> None:
    hold(waiting, "spot", capacity_class="spot")
    waiting.arrived([arrival()], heard=True)
    waiting.plan([])
    hold(waiting, "spot", capacity_class="spot")
    assert not found_only_what_avoids(waiting, "spot")
    assert not waiting.unplanned
    assert waiting.plan([]) == []
    assert waiting.candidates("", frozenset()) == {""}


def test_a_bot_without_a_class_that_comes_later_asks_for_what_others_avoid(waiting: WaitingBots) -> None:
    waiting.arrived([arrival()], heard=True)
    waiting.plan([])
    found_only_what_avoids(waiting, "spot")
    assert waiting.candidates("", frozenset()) == {""}
    waiting.settle("", asked=1, chosen=1, got=[""], marks=waiting.heard("", {""}))
    waiting.settle("", asked=1, chosen=0, got=[], marks=waiting.heard("", {""}))
    assert waiting.candidates("", frozenset()) == set()


@pytest.mark.parametrize("news", ["an arrival", "a look"])
def test_the_class_that_was_avoided_is_woken_again_at_the_next_news(waiting: WaitingBots, news: str) -> None:
    """The job may be free for it by now, or another has come that is."""
    waiting.arrived([arrival()], heard=True)
    waiting.plan([])
    found_only_what_avoids(waiting, "spot")
    hold(waiting, "spot", capacity_class="spot")
    if news == "an arrival":
        waiting.arrived([arrival()], heard=True)
    else:
        assert look(waiting, arrival())
    assert names(waiting.plan([])) == ["spot"]


def test_a_class_that_is_avoided_is_woken_for_new_jobs_of_the_batch(waiting: WaitingBots) -> None:
    waiting.arrived([arrival()], heard=True)
    waiting.plan([])
    found_only_what_avoids(waiting, "spot")
    hold(waiting, "spot", capacity_class="spot")
    assert names(waiting.plan([arrival()])) == ["spot"]
