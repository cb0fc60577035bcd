"""How fast launches may follow each other and how often one is tried: slower after the platform has complained."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from chalicelib.errors import LaunchDeferred, LaunchError, LaunchUnknown
from chalicelib.ports import Clock

WAITS_SECONDS = (0.0, 0.4, 0.9, 1.7)
"""Before each try of one launch: 3 s in all, well within a cadence and a claim's lock."""

FARGATE_BURST = 100
"""Launches that Fargate takes at once, as AWS documents it; 20 a second are what it sustains."""

UNLIMITED_PER_SECOND = 40.0
"""Where a pace without a limit begins to slow down; at this rate it is without a limit again."""

SLOWEST_PER_SECOND = 0.5
RECOVERY_SECONDS = 20.0
"""From standstill to full speed."""

COMPLAINT_SECONDS = 1.0
"""Launches under way at once hear of one congestion together: complaints within this time count as one."""

Answer = TypeVar("Answer")


class Throttled(LaunchDeferred):
    """Refused for being too fast: the one answer that is worth a second try within the same launch."""

    retry_after_seconds = 0.0
    """How long the platform wants to be left alone, where it says so."""


class Pace:
    """A token bucket that threads share: `burst` launches at once, `per_second` from then on; 0 is no limit.

    `slow_down` halves the rate and ends the burst; the rate then grows back steadily. Also without a limit.
    """

    def __init__(self, per_second: float, clock: Clock, burst: int = FARGATE_BURST) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._is_limited = per_second > 0
        self._full_rate = self._rate = per_second or UNLIMITED_PER_SECOND
        self._burst = max(1.0, burst)
        # Below zero are launches that wait.
        self._tokens = self._burst
        self._filled_at = clock.now()
        self._complaint_seconds = COMPLAINT_SECONDS  # since the last one that counted

    def acquire(self, start_until: datetime | None = None) -> None:
        """Return when one more launch may go; blocks until then. Raises LaunchUnknown when it is too late for it."""
        with self._lock:
            is_free = self._fill()
            wait_seconds = 0.0 if is_free else max(0.0, (1 - self._tokens) / self._rate)
            if start_until and self._clock.now() + timedelta(seconds=wait_seconds) > start_until:
                # Who waited all the same would keep the others of its tick from being recorded.
                raise LaunchUnknown("This tick stood still, or launches are too slow; the claim may be another's now")
            self._tokens -= 0 if is_free else 1
        self._clock.sleep(wait_seconds)
        if start_until and self._clock.now() > start_until:
            raise LaunchUnknown("This tick stood still; the claim may be another's now")

    def slow_down(self) -> None:
        """The platform says that launches come too fast."""
        with self._lock:
            self._fill()
            if self._complaint_seconds >= COMPLAINT_SECONDS:
                self._complaint_seconds = 0.0
                self._rate = max(self._rate / 2, min(SLOWEST_PER_SECOND, self._full_rate))
                self._tokens = min(self._tokens, 0.0)

    def room(self, seconds: float) -> int:
        """How many launches `acquire` would let go within so many seconds, at the present rate."""
        with self._lock:
            if self._fill():
                return sys.maxsize
            return max(0, int(self._tokens + self._rate * max(0.0, seconds)))

    def _fill(self) -> bool:
        """Let the time that has passed fill the bucket, then quicken the rate; True while there is no limit at all."""
        now = self._clock.now()
        passed_seconds = max(0.0, (now - self._filled_at).total_seconds())
        self._filled_at = now
        self._complaint_seconds += passed_seconds
        self._tokens = min(self._burst, self._tokens + passed_seconds * self._rate)
        self._rate = min(self._full_rate, self._rate + self._full_rate * passed_seconds / RECOVERY_SECONDS)
        return not self._is_limited and self._rate == self._full_rate


def insist(
    launch: Callable[[], Answer], pace: Pace, clock: Clock, mends: Callable[[LaunchError], bool] = lambda _: False
) -> Answer:
    """What `launch` answers, for about 3 s of tries: more slowly while throttled, and where `mends` did what helps.

    It is asked once more when it says nothing. After one try that nobody knows the end of, only a yes is believed.
    """
    doubt: LaunchUnknown | None = None
    for wait_seconds in WAITS_SECONDS:
        clock.sleep(wait_seconds)
        try:
            return launch()
        except LaunchError as error:
            refusal = doubt or error
            if isinstance(error, Throttled) and error.retry_after_seconds <= max(WAITS_SECONDS):
                pace.slow_down()
                clock.sleep(error.retry_after_seconds)
            elif isinstance(error, LaunchUnknown) and doubt is None:
                doubt = error
            elif not mends(error):
                break
    raise refusal
