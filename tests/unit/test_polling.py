"""The loop of `prefect-agent start`: when it ticks, how long it waits, and how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import hypothesis
import pytest
from hypothesis import strategies as st

from chalicelib.cli.polling import BACK_OFF_SECONDS, keep_ticking, stop_on_signals
from chalicelib.errors import (
    LaunchDeferred,
    LaunchRejected,
    PrefectRejected,
    PrefectUnauthorized,
    PrefectUnreachable,
    SettingsError,
)
from chalicelib.outcomes import Answer, TickReport

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
IDLE = TickReport()
BUSY = TickReport(claimed=1, answers=Counter({Answer.LAUNCHED: 1}))
ONE_IMPOSSIBLE = TickReport(answers=Counter({Answer.IMPOSSIBLE: 1}))
LEFT_FOR_LATER = TickReport(errors=["Flow run x is left for later"])
UNRECORDED = TickReport(claimed=1, answers=Counter({Answer.LAUNCHED: 1}), errors=["Prefect is away"])
MISCONFIGURED = TickReport(
    claimed=1, answers=Counter({Answer.REFUSED_FOR_GOOD: 1}), agent_fault="no such cluster", errors=["no such cluster"]
)


class World:
    """A clock that only waiting turns, an agent that answers by a script, and a stop after some waits."""

    def __init__(self, answers: Sequence[TickReport | Exception] = (), stop_after_waits: int = 99) -> None:
        self.answers = list(answers)
        self.stop_after_waits = stop_after_waits
        self.time = NOON
        self.waits: list[float] = []
        self.deadlines: list[datetime] = []
        self.recovered: list[bool] = []

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        raise AssertionError("only the stop signal may be waited on, or Ctrl-C would come too late")

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.time += timedelta(seconds=seconds)
        return len(self.waits) >= self.stop_after_waits

    def tick(self, deadline: datetime, recovers: bool = False) -> TickReport:
        self.deadlines.append(deadline)
        self.recovered.append(recovers)
        answer = self.answers.pop(0) if self.answers else IDLE
        if isinstance(answer, Exception):
            raise answer
        return answer

    def keep_ticking(self, max_polls: int | None = None, cadence_seconds: float = 10) -> bool:
        return keep_ticking(self, self, max_polls, self.wait, cadence_seconds)


def test_idle_ticks_wait_as_long_as_the_real_agent_does() -> None:
    world = World(stop_after_waits=8)
    assert world.keep_ticking()
    assert world.waits == [0.5, 1, 2, 4, 8, 10, 10, 10]


def test_something_found_sets_the_wait_back_at_once() -> None:
    world = World([IDLE, IDLE, IDLE, BUSY, ONE_IMPOSSIBLE, IDLE], stop_after_waits=6)
    world.keep_ticking()
    assert world.waits == [0.5, 1, 2, 0.25, 0.25, 0.5]


@pytest.mark.parametrize("report", [LEFT_FOR_LATER, UNRECORDED, MISCONFIGURED])
def test_what_has_to_be_left_is_no_reason_to_hurry(report: TickReport) -> None:
    world = World([report] * 3, stop_after_waits=3)
    world.keep_ticking()
    assert world.waits == [0.5, 1, 2]


def test_every_tick_has_a_deadline_one_cadence_ahead() -> None:
    world = World(stop_after_waits=2)
    world.keep_ticking(cadence_seconds=7)
    assert world.deadlines == [NOON + timedelta(seconds=7), NOON + timedelta(seconds=7.5)]


@pytest.mark.parametrize("max_polls", [0, 1, 3])
def test_it_ends_after_max_polls_without_a_last_wait(max_polls: int) -> None:
    world = World()
    assert world.keep_ticking(max_polls)
    assert (len(world.deadlines), len(world.waits)) == (max_polls, max(max_polls - 1, 0))


@pytest.mark.parametrize("trouble", [PrefectUnreachable("away"), PrefectRejected("no"), KeyError("surprise")])
def test_a_tick_that_fails_is_logged_and_tried_again_later(
    trouble: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    world = World([trouble, trouble, BUSY], stop_after_waits=3)
    assert world.keep_ticking()
    assert world.waits == [0.5, 1, 0.25]
    assert [record.message.split(":")[0].split(",")[0] for record in caplog.records][:2] == ["Tick failed"] * 2


def test_the_last_tick_decides_whether_the_work_was_done() -> None:
    assert not World([BUSY, PrefectUnreachable("away")]).keep_ticking(max_polls=2)
    assert World([PrefectUnreachable("away"), BUSY]).keep_ticking(max_polls=2)


def test_who_is_told_to_stop_ends_well_though_prefect_is_away() -> None:
    assert World([PrefectUnreachable("away")], stop_after_waits=1).keep_ticking(max_polls=2)


@pytest.mark.parametrize("end", [PrefectUnauthorized("refused"), SettingsError(["wrong"])])
def test_what_waiting_does_not_mend_ends_it(end: Exception) -> None:
    world = World([BUSY, end])
    with pytest.raises(type(end)):
        world.keep_ticking()
    assert len(world.deadlines) == 2


@pytest.mark.parametrize(
    ("trouble", "is_surprise"),
    [(PrefectUnreachable("away"), False), (LaunchDeferred("no daemon"), False), (KeyError("surprise"), True)],
)
def test_only_a_surprise_is_logged_with_its_traceback(
    trouble: Exception, is_surprise: bool, caplog: pytest.LogCaptureFixture
) -> None:
    World([trouble], stop_after_waits=1).keep_ticking()
    (record,) = caplog.records
    assert bool(record.exc_info) is is_surprise


def test_a_misconfigured_agent_says_so(caplog: pytest.LogCaptureFixture) -> None:
    World([MISCONFIGURED], stop_after_waits=1).keep_ticking()
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "no such cluster" in warning


ANSWERS = st.sampled_from(
    [IDLE, BUSY, ONE_IMPOSSIBLE, LEFT_FOR_LATER, MISCONFIGURED, PrefectUnreachable("away"), LaunchRejected("no")]
)


@hypothesis.given(st.lists(ANSWERS, min_size=2, max_size=12))
def test_a_wait_is_the_shortest_after_progress_and_else_the_next_longer(answers: list[TickReport | Exception]) -> None:
    world = World(answers)
    world.keep_ticking(max_polls=len(answers))
    for before, answer, wait in zip([0.25, *world.waits], answers, world.waits, strict=False):
        got_on = answer is BUSY or answer is ONE_IMPOSSIBLE
        longer = BACK_OFF_SECONDS[min(BACK_OFF_SECONDS.index(before) + 1, 6)]
        assert wait == (BACK_OFF_SECONDS[0] if got_on else longer)


# Real signals, in a process of its own whose tick lasts until a line comes in

PROCESS = """
import sys
from chalicelib.cli.commands import start
from chalicelib.outcomes import TickReport
from chalicelib.settings import load_settings

class Agent:
    def tick(self, deadline, recovers):
        print("tick begins", flush=True)
        sys.stdin.readline()
        print("tick ends", flush=True)
        return TickReport()

sys.exit(start(Agent(), load_settings({})))
"""


@contextmanager
def process_in_a_tick() -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", PROCESS], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "tick begins\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_tick_finish_and_ends_without_another(kind: signal.Signals) -> None:
    with process_in_a_tick() as process:
        process.send_signal(kind)
        assert process.stderr is not None
        assert process.stderr.readline() == f"{kind.name}: ending after this tick; once more ends at once\n"
        out, err = process.communicate("\n")
    assert (process.returncode, out, err) == (0, "tick ends\n", "")


def test_in_a_thread_of_somebody_elses_no_signal_is_taken() -> None:
    heard: list[bool] = []

    def run() -> None:
        with stop_on_signals() as bell:
            bell.stop()
            heard.append(bell.wait(60))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert (heard, signal.getsignal(signal.SIGINT)) == ([True], before)


def test_a_second_signal_ends_at_once() -> None:
    with process_in_a_tick() as process:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (-signal.SIGINT, "", "")


def test_a_signal_between_two_ticks_ends_the_wait() -> None:
    with process_in_a_tick() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "tick ends\n"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate("\n")
    assert process.returncode == 0
    assert out in ("", "tick begins\ntick ends\n")


def test_the_first_tick_recovers_and_then_one_a_minute_does() -> None:
    world = World(stop_after_waits=18)
    world.keep_ticking()
    times = [deadline - timedelta(seconds=10) - NOON for deadline in world.deadlines]
    assert [time.total_seconds() for time, recovers in zip(times, world.recovered, strict=True) if recovers] == [
        0.0,
        65.5,
        125.5,
    ]
