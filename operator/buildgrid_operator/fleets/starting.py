"""How pods come up: how long it takes, which do not, and for how long none is made then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from statistics import median

from buildgrid_operator.fleets.bots import Moments, Situation, moments_of, situation_of
from buildgrid_operator.fleets.views import BotView, FleetView, Phase, StartTrouble

USUAL_START = timedelta(seconds=30)
"""until one was measured"""
STARTS_KEPT = 10
FAIR_CHANCE = timedelta(minutes=1)
"""for the kubelet: within it, it has tried an image three times, 10 s and 20 s apart"""
FIRST_BACKOFF, LONGEST_BACKOFF = timedelta(seconds=10), timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class FailedStart:
    """A pod that does not come up."""

    bot: BotView
    trouble: StartTrouble
    words: str


@dataclass(frozen=True, slots=True)
class Backoff:
    """No pods are made for a while, for one reason."""

    trouble: StartTrouble
    until: datetime
    delay: timedelta
    words: str
    template_hash: str
    """of the pods that failed: another template may do"""
    newest: int
    """number of the newest pod that there was then: those up to it failed together"""


@dataclass(frozen=True, slots=True)
class StartMemory:
    """Of one fleet's pods. A new one, after a restart, only makes the operator slower."""

    began: datetime | None = None
    """of the first look: how pods that had ended by then came up, nobody knows"""
    registered: frozenset[str] = frozenset()
    """UIDs of pods that were seen with a session"""
    since: Moments = field(default_factory=dict)
    starts: tuple[timedelta, ...] = ()
    """the latest ones, oldest first"""
    backoffs: Mapping[StartTrouble, Backoff] = field(default_factory=dict)
    failed: frozenset[str] = frozenset()
    """UIDs of pods that count in a backoff already"""


def start_time(memory: StartMemory, before: timedelta | None = None) -> timedelta:
    """From making a pod until its first session: the median of the latest ones. `before`: what it was, as
    far as anybody knows; it counts until one is measured.
    """
    if not memory.starts:
        return USUAL_START if before is None else before
    return timedelta(seconds=median(each.total_seconds() for each in memory.starts))


def held(memory: StartMemory, template_hash: str, now: datetime) -> Backoff | None:
    """Why no pod of this template is made now, and until when; None: they may be made."""
    active = [
        each for each in memory.backoffs.values() if each.template_hash == template_hash and now < each.until
    ]
    return max(active, key=lambda each: each.until, default=None)


def failing(memory: StartMemory, template_hash: str) -> Backoff | None:
    """Why the latest pods of this template did not come up, whether or not the next may be made already;
    None: they do.
    """
    found = [each for each in memory.backoffs.values() if each.template_hash == template_hash]
    return max(found, key=lambda each: each.until, default=None)


def failed_starts(bots: Sequence[BotView], timeout: timedelta, now: datetime) -> list[FailedStart]:
    """Pods that never had a session and will have none. `timeout`: of spec.startup.

    Troubles of containers count when they have lasted for FAIR_CHANCE; a missing session after `timeout` from
    when the pod has a node; time in which the scheduler was not seen does not count.
    """
    found = [_failed(bot, timeout, now) for bot in bots]
    return [each for each in found if each is not None]


def remember(memory: StartMemory, view: FleetView, now: datetime, *, newest: int = 0) -> StartMemory:
    """After a look at the fleet. Bots that registered end the backoff of their template. `newest`: number of
    the newest pod that was made, which the watch need not show yet.
    """
    began = memory.began or now
    there = {bot.pod.uid for bot in view.bots}
    arrived = [bot for bot in view.bots if bot.session is not None and _was_starting(bot, memory)]
    starts = [
        max(timedelta(), bot.session.connected - bot.pod.created)
        for bot in arrived
        if bot.session is not None
    ]
    failures = [
        each
        for each in failed_starts(view.bots, view.fleet.spec.startup.timeout, now)
        if each.bot.pod.uid not in memory.failed and not _ended_before(each.bot, began)
    ]
    come_up = {bot.pod.template_hash for bot in arrived}
    backoffs = {
        trouble: each for trouble, each in memory.backoffs.items() if each.template_hash not in come_up
    }
    changed = replace(memory, backoffs=backoffs)
    newest = max((newest, *(bot.pod.number for bot in view.bots)))
    for each in failures:
        changed = _failed_again(changed, each, newest, now)
    counted = {each.bot.pod.uid for each in failures}
    return replace(
        changed,
        began=began,
        registered=frozenset(bot.pod.uid for bot in view.bots if bot.registered),
        since=moments_of(view.bots),
        starts=(*memory.starts, *starts)[-STARTS_KEPT:],
        failed=(memory.failed | counted) & there,
    )


def refused(memory: StartMemory, template_hash: str, words: str, now: datetime) -> StartMemory:
    """After the API server did not take a pod."""
    return _backed_off(memory, StartTrouble.REFUSED, template_hash, words, 0, now)


def accepted(memory: StartMemory) -> StartMemory:
    """After the API server took a pod."""
    backoffs = dict(memory.backoffs)
    backoffs.pop(StartTrouble.REFUSED, None)
    return replace(memory, backoffs=backoffs)


def _failed(bot: BotView, timeout: timedelta, now: datetime) -> FailedStart | None:
    pod = bot.pod
    if bot.registered or pod.ending:
        return None
    if pod.phase is Phase.ENDED:
        return FailedStart(bot, StartTrouble.CRASH, f"{pod.words}, without ever having had a session")
    if situation_of(bot) not in (Situation.STARTING, Situation.BLOCKED):
        return None
    since = bot.since or pod.created
    if pod.trouble is not None:
        return FailedStart(bot, pod.trouble, pod.words) if now - since >= FAIR_CHANCE else None
    if pod.scheduled is not None and now - max(pod.scheduled, since) >= timeout:
        words = (
            f"the pod {pod.name} has a node and no session after {round(timeout.total_seconds())} s; see "
            f"kubectl logs {pod.name}"
        )
        return FailedStart(bot, StartTrouble.NEVER_REGISTERED, words)
    return None


def _was_starting(bot: BotView, memory: StartMemory) -> bool:
    """Whether this is its first session. Of those that an operator before has seen come up nobody knows."""
    if bot.pod.uid in memory.registered or memory.began is None:
        return False
    return bot.pod.created >= memory.began


def _ended_before(bot: BotView, began: datetime) -> bool:
    return bot.pod.phase is Phase.ENDED and bot.pod.created < began


def _failed_again(memory: StartMemory, failure: FailedStart, newest: int, now: datetime) -> StartMemory:
    """Pods that were there when the backoff began failed together with those that it is about."""
    pod = failure.bot.pod
    before = memory.backoffs.get(failure.trouble)
    if before is not None and before.template_hash == pod.template_hash and pod.number <= before.newest:
        return memory
    return _backed_off(memory, failure.trouble, pod.template_hash, failure.words, newest, now)


def _backed_off(
    memory: StartMemory,
    trouble: StartTrouble,
    template_hash: str,
    words: str,
    newest: int,
    now: datetime,
) -> StartMemory:
    before = memory.backoffs.get(trouble)
    delay = FIRST_BACKOFF
    if before is not None and before.template_hash == template_hash:
        delay = min(before.delay * 2, LONGEST_BACKOFF)
    backoff = Backoff(trouble, now + delay, delay, words, template_hash, newest)
    return replace(memory, backoffs={**memory.backoffs, trouble: backoff})
