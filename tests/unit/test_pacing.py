"""The pace of launches."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.launchers.pacing import RECOVERY_SECONDS, UNLIMITED_PER_SECOND, Pace
from tests.doubles.clock import TurnedClock


def launches_within(times: list[float], begin: int, seconds: float) -> int:
    return sum(times[begin] <= each <= times[begin] + seconds for each in times)


@given(
    per_second=st.floats(min_value=0.1, max_value=100),
    burst=st.integers(min_value=1, max_value=50),
    pauses=st.lists(st.one_of(st.just(0.0), st.floats(min_value=0, max_value=5)), min_size=1, max_size=80),
    complaints=st.sets(st.integers(min_value=0, max_value=80)),
    window_seconds=st.floats(min_value=0, max_value=60),
)
def test_no_window_sees_more_than_the_burst_and_the_rate_allow(
    per_second: float, burst: int, pauses: list[float], complaints: set[int], window_seconds: float
) -> None:
    clock = TurnedClock()
    pace = Pace(per_second, clock, burst)
    times = []
    for index, pause in enumerate(pauses):
        clock.sleep(pause)
        if index in complaints:
            pace.slow_down()
        pace.acquire()
        times.append(clock.slept_seconds)
    # The clock counts whole microseconds.
    most = burst + per_second * (window_seconds + 1e-6 * len(times)) + 1e-6
    assert all(launches_within(times, begin, window_seconds) <= most for begin in range(len(times)))


@given(
    per_second=st.floats(min_value=0.5, max_value=50),
    burst=st.integers(min_value=1, max_value=20),
    before=st.integers(min_value=0, max_value=40),
    seconds=st.floats(min_value=0, max_value=10),
)
def test_as_many_launches_as_there_is_room_for_are_let_go_in_that_time(
    per_second: float, burst: int, before: int, seconds: float
) -> None:
    clock = TurnedClock()
    pace = Pace(per_second, clock, burst)
    for _ in range(before):
        pace.acquire()
    room, begin = pace.room(seconds), clock.slept_seconds
    for _ in range(room):
        pace.acquire()
    assert clock.slept_seconds - begin <= seconds + 1e-6 * (room + 1)
    assert pace.room(0) <= burst


def test_a_burst_goes_at_once_and_the_rest_one_by_one() -> None:
    clock = TurnedClock()
    pace = Pace(2, clock, burst=3)
    for _ in range(5):
        pace.acquire()
    assert clock.slept_seconds == 1.0


class StandingClock(TurnedClock):
    """A clock on which launches wait side by side: no time passes, however long they are told to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


def test_launches_that_wait_side_by_side_go_one_after_the_other() -> None:
    clock = StandingClock()
    pace = Pace(2, clock, burst=1)
    for _ in range(4):
        pace.acquire()
    assert [wait for wait in clock.waits if wait > 0] == [0.5, 1.0, 1.5]
    assert (pace.room(1), pace.room(2)) == (0, 1)


def test_a_complaint_halves_the_rate_and_ends_the_burst_and_the_rate_grows_back() -> None:
    clock = TurnedClock()
    pace = Pace(10, clock, burst=100)
    assert pace.room(1) == 110
    pace.slow_down()
    assert pace.room(1) == 5
    clock.sleep(RECOVERY_SECONDS / 4)
    assert pace.room(1) - pace.room(0) in (7, 8)
    clock.sleep(RECOVERY_SECONDS)
    assert pace.room(1) - pace.room(0) == 10


def test_complaints_about_one_congestion_count_once() -> None:
    clock = TurnedClock()
    pace = Pace(8, clock, burst=1)
    for _ in range(16):
        pace.slow_down()
    assert pace.room(1) == 4
    clock.sleep(1.0)
    pace.slow_down()
    assert pace.room(1) == 2


def test_complaints_never_bring_launches_to_a_halt() -> None:
    clock = TurnedClock()
    pace = Pace(20, clock, burst=1)
    for _ in range(50):
        clock.sleep(1.0)
        pace.slow_down()
    assert pace.room(10) >= 5


def test_without_a_limit_nothing_waits_until_the_platform_complains() -> None:
    clock = TurnedClock()
    pace = Pace(0, clock)
    for _ in range(1000):
        pace.acquire()
    assert (clock.slept_seconds, pace.room(0)) == (0, sys.maxsize)
    pace.slow_down()
    assert pace.room(1) == UNLIMITED_PER_SECOND / 2
    pace.acquire()
    assert clock.slept_seconds == 2 / UNLIMITED_PER_SECOND
    clock.sleep(RECOVERY_SECONDS)
    assert pace.room(0) == sys.maxsize
