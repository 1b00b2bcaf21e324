"""How often jobs come that require the same of a bot, and how long a bot has one. Pure.

Two kinds of figures, which grow old in two ways.

- How often: each arrival counts 1, and halves every RATE_HALF_LIFE. With a steady rate of r a second the sum
  of that comes to r times RATE_MEMORY, so that the rate is the sum divided by RATE_MEMORY.
- How long: old sums shrink by exp(-n / JOBS_MEMORY) when n more jobs are counted, whenever that is. So the
  last 50 jobs tell, and a requirement that nobody had for a day is as well known as before.

The duration is a mean, not a median: what jobs take of bots adds up, and a queue of n jobs is n means of
work. Nor is it the mean of a log-normal distribution: where some jobs take a moment and others minutes, as
those with and without a warm cache do, that is wrong by a factor of ten. What a mean suffers from is the one
job that hung. So a duration counts as OUTLIER standard deviations above the mean at most. The limit moves
with what it let through: what occurs more often than about once in 26 jobs ends up counted whole, however
long it takes, and what occurs once in 50 hardly moves the mean.
"""

import math
from dataclasses import dataclass
from datetime import timedelta

RATE_HALF_LIFE = timedelta(minutes=10)
RATE_MEMORY = RATE_HALF_LIFE / math.log(2)
"""after this an arrival counts 1/e"""
JOBS_MEMORY = 50.0
"""jobs"""
OUTLIER = 5.0
"""standard deviations"""
_LEAST_SPREAD = 0.5
"""of the mean: jobs that took the same so far may take a bit longer"""
_ENOUGH = 10.0
"""jobs, before which no duration is out of the ordinary"""
_LEAST_LIMIT = 1.0
"""seconds, for jobs that take hardly any time"""
_SHORTEST = 0.001
"""seconds; the clocks of two replicas may say that a job took less than nothing"""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of jobs that require the same."""

    arrival_rate: float
    """jobs that came in a second, lately"""
    duration: timedelta | None
    """from when a bot is told of such a job until it is complete; none: no job has finished yet"""
    duration_spread: timedelta | None
    """its standard deviation; none with it"""


@dataclass(slots=True)
class Sums:
    """What happened in a short while."""

    arrived: int = 0
    finished: int = 0
    seconds: float = 0.0
    """of the finished ones"""
    seconds_squared: float = 0.0

    def finish(self, duration: timedelta, longest: float) -> None:
        """A job finished; more than `longest` seconds count as so many."""
        seconds = min(max(duration.total_seconds(), _SHORTEST), longest)
        self.finished += 1
        self.seconds += seconds
        self.seconds_squared += seconds * seconds

    def add(self, other: "Sums") -> None:
        """Both."""
        self.arrived += other.arrived
        self.finished += other.finished
        self.seconds += other.seconds
        self.seconds_squared += other.seconds_squared


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of all time, the latest weighing most. As Sums, but grown old."""

    arrived: float
    finished: float
    seconds: float
    seconds_squared: float

    @property
    def longest_counted(self) -> float:
        """Seconds, more than which a duration does not count as."""
        if self.finished < _ENOUGH:
            return math.inf
        mean = self._mean
        return max(_LEAST_LIMIT, mean + OUTLIER * max(self._spread, _LEAST_SPREAD * mean))

    def estimate(self, age: timedelta) -> Estimate:
        """`age`: since `arrived` was right."""
        arrived = self.arrived * math.exp(-max(age, timedelta(0)) / RATE_MEMORY)
        rate = arrived / RATE_MEMORY.total_seconds()
        if self.finished <= 0:
            return Estimate(rate, None, None)
        return Estimate(rate, timedelta(seconds=self._mean), timedelta(seconds=self._spread))

    @property
    def _mean(self) -> float:
        return self.seconds / self.finished

    @property
    def _spread(self) -> float:
        # Of equal durations rounding may make it less than nothing.
        return math.sqrt(max(0.0, self.seconds_squared / self.finished - self._mean**2))
