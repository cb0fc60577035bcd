"""Token buckets, as ECS limits the rate of its calls; none is there until a test puts it up."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime

from tests.doubles.ecs.faults import throttled
from tests.doubles.ecs.store import Clock

REGISTRATIONS = ("RegisterTaskDefinition", "DeregisterTaskDefinition", "DeleteTaskDefinitions")
READS = (
    "DescribeClusters",
    "DescribeTaskDefinition",
    "DescribeTasks",
    "ListClusters",
    "ListTagsForResource",
    "ListTaskDefinitions",
    "ListTasks",
)


@dataclass
class Bucket:
    """`burst` calls at once and `per_second` from then on, for all of its actions together."""

    burst: int
    per_second: float
    disguised: bool
    tokens: float
    filled_at: datetime

    def take(self, now: datetime) -> bool:
        """Whether one more call fits at `now`."""
        passed = max(0.0, (now - self.filled_at).total_seconds())
        self.tokens = min(float(self.burst), self.tokens + passed * self.per_second)
        self.filled_at = now
        fits = self.tokens >= 1
        self.tokens -= fits
        return fits


class Throttles:
    """The buckets that are up, by action."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, Bucket] = {}

    def add(self, *actions: str, burst: int, per_second: float, disguised: bool = False) -> None:
        """Let these actions share one bucket, full now."""
        bucket = Bucket(burst, per_second, disguised, float(burst), self._clock.now())
        with self._lock:
            self._buckets.update(dict.fromkeys(actions, bucket))

    def add_documented(self) -> None:
        """The limits of a Fargate account, as AWS documents them."""
        self.add(*REGISTRATIONS, burst=20, per_second=1)
        self.add("RunTask", burst=100, per_second=20)
        self.add(*READS, burst=100, per_second=20)

    def clear(self) -> None:
        """Take all limits down."""
        with self._lock:
            self._buckets.clear()

    def pass_or_refuse(self, action: str) -> None:
        """Count one call; refuses it as ECS does when it came too fast."""
        with self._lock:
            bucket = self._buckets.get(action)
            if bucket and not bucket.take(self._clock.now()):
                raise throttled(bucket.disguised)
