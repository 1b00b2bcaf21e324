"""Decisions in sentences, for status, events and people."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from buildgrid_operator.planner.farm import Fleet

_MOST_DEMANDS = 3
_UNITS = ((3600, "h"), (60, "min"), (1, "s"))


def held(have: int, create: int) -> str:
    """While the scheduler's state is not known."""
    more = f"; {_are(create, 'created')}, because so many are asked for at least" if create else ""
    return f"the scheduler's state is not known: {bots(have)} {_is(have)} held{more}"


def waiting(jobs: Mapping[str, int], fleet: Fleet, starting: int) -> str:
    """Why more bots are needed: `12 jobs that need Pool=gpu would wait more than 30 s; 3 bots start`."""
    if not jobs:
        return ""
    most = sorted(jobs.items(), key=lambda each: (-each[1], each[0]))
    told = [
        f"{_jobs(count)} that need{'s' if count == 1 else ''} {words}"
        for words, count in most[:_MOST_DEMANDS]
    ]
    rest = sum(count for _, count in most[_MOST_DEMANDS:])
    if rest:
        told.append(f"{_jobs(rest)} of other kinds")
    limit = max(fleet.policy.target_wait, fleet.start_time)
    start = f"; {bots(starting)} start{'s' if starting == 1 else ''}" if starting else ""
    return f"{' and '.join(told)} would wait more than {span(limit)}{start}"


def created(create: int, restored: int) -> str:
    """What is done about it."""
    parts = []
    if create:
        parts.append(_are(create, "created"))
    if restored:
        parts.append(f"{bots(restored)} that drained {_is(restored)} taken back")
    return ", ".join(parts)


def let_go(release: int, idle: int, removed: int, kept: int, window: timedelta) -> str:
    """Who goes, and why."""
    parts = []
    if release:
        parts.append(f"{release} of {idle} idle {_plural('bot', idle)} {'goes' if release == 1 else 'go'}")
    if removed:
        parts.append(f"{bots(removed)} that never registered {'goes' if removed == 1 else 'go'}")
    if not parts:
        return ""
    return f"{' and '.join(parts)}: not more than {kept} {_was(kept)} needed for {span(window)}"


def replaced(cordoned: int) -> str:
    """Of a rollout."""
    return f"{bots(cordoned)} {_is(cordoned)} drained to be replaced" if cordoned else ""


def above_maximum(count: int, max_bots: int) -> str:
    """Of a fleet whose maximum was lowered."""
    return f"{bots(count)} {_is(count)} let go: maxBots is {max_bots}" if count else ""


def steady(have: int, need: int, kept: int, window: timedelta, known: timedelta) -> str:
    """Nothing to do. `known`: for how long it has been known what is needed."""
    told = f"{bots(need)} {_is(need)} needed, {have} there"
    if have <= need or kept <= need:
        return told
    if known < window:
        return f"{told}: none is let go before it has been known for {span(window)} what is needed"
    return f"{told}: {kept} {_was(kept)} needed within {span(window)}"


def limited(limits: Sequence[str]) -> str:
    """`limited by maxBots 10`"""
    return f"limited by {' and '.join(limits)}" if limits else ""


def joined(*parts: str) -> str:
    """Those that say something, in one sentence."""
    return "; ".join(part for part in parts if part)


def span(time: timedelta) -> str:
    """`90 s`, `5 min`, `2 h`: the greatest unit that is exact."""
    seconds = round(time.total_seconds())
    size, unit = next((each for each in _UNITS if seconds % each[0] == 0), _UNITS[-1])
    return f"{seconds // size} {unit}" if seconds else "0 s"


def bots(count: int) -> str:
    """`1 bot`, `2 bots`"""
    return f"{count} {_plural('bot', count)}"


def _jobs(count: int) -> str:
    return f"{count} {_plural('job', count)}"


def _are(count: int, done: str) -> str:
    return f"{bots(count)} {_is(count)} {done}"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _was(count: int) -> str:
    return "was" if count == 1 else "were"
