"""The sweep against an API and a platform in memory: what it tells the one and asks of the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from chalicelib.errors import LaunchDeferred, LaunchUnknown, PrefectUnreachable
from chalicelib.flow_runs import Claim, FlowRun, Place
from chalicelib.outcomes import Outcome, TickReport
from chalicelib.sightings import Consequence, Launched, Own, Phase, Resubmit, Sighting, Standing, Stop, consequence_of
from chalicelib.sweep import (
    FORGOTTEN_SECONDS,
    SILENCE_SECONDS,
    STRAYS_MINUTES,
    Manners,
    Sweep,
)
from tests.doubles.clock import TurnedClock

GRACE_SECONDS = 60.0
FAILED = Stop("exit code 1", has_run=True)


@dataclass
class MemoryAPI:
    """A PrefectAPI that knows how its runs stand, writes what follows from a stop, and remembers it."""

    standings: dict[str, Standing] = field(default_factory=dict)
    finished: dict[str, datetime] = field(default_factory=dict)
    written: list[tuple[str, Consequence, str]] = field(default_factory=list)
    refreshed: list[str] = field(default_factory=list)
    trouble: Exception | None = None
    requests: int = 0
    launched: list[Launched] = field(default_factory=list)
    read_trouble: Exception | None = None

    def record_stops(self, stops: Sequence[Sighting], alive: Sequence[Sighting] = ()) -> list[Consequence]:
        self.requests += 1
        if self.trouble:
            raise self.trouble
        self.refreshed += [each.run_id for each in alive]
        return [self._write(sighting) for sighting in stops]

    def _write(self, sighting: Sighting) -> Consequence:
        consequence = consequence_of(sighting, self.standings.get(sighting.run_id, Standing(None)))
        if consequence is not Consequence.NOTHING and sighting.stop:
            self.written.append((sighting.run_id, consequence, sighting.stop.reason))
            self.standings[sighting.run_id] = Standing(None)
        return consequence

    def find_finished(self, run_ids: Sequence[str], before: datetime) -> set[str]:
        if self.trouble:
            raise self.trouble
        return {run_id for run_id in run_ids if run_id in self.finished and self.finished[run_id] < before}

    def find_own(self, place: Place) -> Own:
        self.requests += 1
        if self.read_trouble:
            raise self.read_trouble
        return Own(launched=tuple(self.launched))

    def record_and_poll(self, outcomes: Sequence[Outcome], before: datetime) -> list[FlowRun]:
        raise AssertionError("the sweep starts nothing")

    def claim(self, runs: Sequence[FlowRun], place: Place) -> list[Claim]:
        raise AssertionError("the sweep claims nothing")


@dataclass
class MemoryPlatform:
    """A Launcher whose tasks are known by their texts; what is stopped is seen as stopped from then on."""

    tasks: dict[str, Sighting] = field(default_factory=dict)
    stops: list[tuple[str, str]] = field(default_factory=list)
    unstoppable: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)
    look_trouble: Exception | None = None
    list_trouble: Exception | None = None
    listed: int = 0
    place: Place = field(default_factory=lambda: Place("memory", "here"))

    def look_at(self, texts: Sequence[str]) -> list[Sighting]:
        if self.look_trouble:
            raise self.look_trouble
        return [self.tasks[text] for text in texts if text in self.tasks]

    def find_alive(self, run_id: str) -> Sighting | None:
        if run_id in self.doubtful:
            raise LaunchUnknown("ListTasks: throttled")
        return next((task for task in self._alive() if task.run_id == run_id), None)

    def list_alive(self) -> list[Sighting]:
        self.listed += 1
        if self.list_trouble:
            raise self.list_trouble
        return list(self._alive())

    def stop(self, sighting: Sighting, reason: str) -> None:
        if sighting.text in self.unstoppable:
            raise LaunchDeferred("StopTask: throttled")
        self.stops.append((sighting.text, reason))
        self.tasks[sighting.text] = replace(self.tasks[sighting.text], stop=Stop("stopped", has_run=True))

    def _alive(self) -> Iterable[Sighting]:
        return (task for task in self.tasks.values() if task.stop is None and not task.trouble)

    def build(self, run: FlowRun) -> Any:
        raise AssertionError("the sweep builds nothing")

    def room(self, seconds: float) -> int:
        raise AssertionError("the sweep launches nothing")

    def read_events(self, bodies: Sequence[str]) -> list[str]:
        raise AssertionError("the sweep reads no events")

    def launch(self, request: Any, key: str, start_until: datetime) -> str:
        raise AssertionError("the sweep launches nothing")


class World:
    """A clock at half past, an API and a platform with some launches on both."""

    def __init__(self) -> None:
        self.clock = TurnedClock(TurnedClock().now().replace(minute=30))
        self.api = MemoryAPI()
        self.platform = MemoryPlatform()
        self.launched: list[Launched] = []
        self.manners = Manners(cancel_grace_seconds=GRACE_SECONDS)

    def add(self, name: str, phase: Phase, age_seconds: float = 0.0, text: str | None = None) -> None:
        """A launch of the run `name` as Prefect knows it, its task or not is another matter."""
        since = self.clock.now() - timedelta(seconds=age_seconds)
        self.launched.append(Launched(name, f"{name}-1", phase, since, f"Task {name}" if text is None else text))
        self.api.launched = list(self.launched)
        self.api.standings[name] = Standing(phase, f"{name}-1")

    def run(self, name: str, key: str | None = None, is_running: bool = True, stop: Stop | None = None) -> None:
        """The task of the run `name` as the platform knows it."""
        self.platform.tasks[f"Task {name}"] = Sighting(name, key or f"{name}-1", f"Task {name}", is_running, stop)

    def sweep(self) -> TickReport:
        """A sweep of what was launched when its tick began; `api.launched` is what has become of that since."""
        report = TickReport()
        Sweep(self.api, self.platform, self.clock, self.manners).run(self.launched, report)
        return report

    def stopped(self) -> list[str]:
        return [text for text, _ in self.platform.stops]

    def written(self) -> dict[str, Consequence]:
        return {name: consequence for name, consequence, _ in self.api.written}

    def turn_to_minute(self, minute: int) -> None:
        """Wait for that minute of the next hour."""
        now = self.clock.now()
        later = now.replace(minute=minute, second=0) + timedelta(hours=1)
        self.clock.turn((later - now).total_seconds())


@pytest.fixture
def world() -> World:
    return World()


# what has ended unheard


def test_what_has_ended_without_an_event_is_told(world: World) -> None:
    world.add("dead", Phase.RUNNING)
    world.add("alive", Phase.RUNNING)
    world.run("dead", stop=FAILED)
    world.run("alive")
    report = world.sweep()
    assert world.api.written == [("dead", Consequence.FAIL, "exit code 1")]
    assert report.as_dict()["stopped"] == {"failed": 1}
    assert report.errors == []


def test_each_consequence_is_counted_and_what_is_left_alone_is_not(world: World) -> None:
    world.add("fails", Phase.WAITING)
    world.add("again", Phase.WAITING)
    world.add("ends", Phase.CANCELLING)
    world.add("well", Phase.RUNNING)
    world.run("fails", stop=FAILED)
    world.run("again", stop=Stop("no capacity", has_run=False, passes=True))
    world.run("ends", stop=FAILED)
    world.run("well", stop=Stop("exit code 0", has_run=True, went_well=True))
    assert world.sweep().as_dict()["stopped"] == {"failed": 1, "resubmitted": 1, "cancelled": 1}


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.RUNNING])
def test_a_task_that_the_platform_does_not_know_has_ended_after_an_hour_and_not_before(
    world: World, phase: Phase
) -> None:
    world.add("gone", phase, age_seconds=FORGOTTEN_SECONDS)
    world.sweep()
    assert world.api.written == []
    world.clock.turn(1)
    world.sweep()
    ((_, consequence, reason),) = world.api.written
    assert consequence is Consequence.FAIL
    assert "Task gone is not known in memory:here" in reason


def test_what_has_vanished_is_never_launched_again_by_itself(world: World) -> None:
    world.add("gone", Phase.RUNNING, age_seconds=FORGOTTEN_SECONDS + 1)
    world.api.standings["gone"] = replace(world.api.standings["gone"], resubmit=Resubmit.RUNNING)
    world.sweep()
    assert world.written() == {"gone": Consequence.FAIL}


def test_a_task_that_was_adopted_speaks_for_the_launch_that_it_was_recorded_as(world: World) -> None:
    world.add("adopted", Phase.RUNNING)
    world.run("adopted", key="an-older-key", stop=FAILED)
    world.sweep()
    assert world.written() == {"adopted": Consequence.FAIL}


def test_a_task_of_another_run_does_not_speak_for_the_launch(world: World) -> None:
    world.add("named", Phase.RUNNING)
    world.platform.tasks["Task named"] = Sighting("another", "named-1", "Task named", stop=FAILED)
    world.sweep()
    assert world.api.written == []


@pytest.mark.parametrize("is_known", [True, False])
def test_a_running_run_whose_recorded_task_has_ended_is_left_alone_while_another_of_it_lives(
    world: World, is_known: bool
) -> None:
    world.add("relaunched", Phase.RUNNING, age_seconds=FORGOTTEN_SECONDS + 1)
    if is_known:
        world.run("relaunched", stop=FAILED)
    world.platform.tasks["Task later"] = Sighting("relaunched", "relaunched-2", "Task later", is_running=True)
    world.sweep()
    assert world.api.written == []
    world.platform.tasks["Task later"] = replace(world.platform.tasks["Task later"], stop=FAILED)
    world.sweep()
    assert world.written() == {"relaunched": Consequence.FAIL}


def test_a_cancelled_run_whose_recorded_task_has_ended_has_the_other_of_it_stopped(world: World) -> None:
    world.add("relaunched", Phase.CANCELLED)
    world.run("relaunched", stop=FAILED)
    world.platform.tasks["Task later"] = Sighting("relaunched", "relaunched-2", "Task later")
    world.sweep()
    assert world.stopped() == ["Task later"]


def test_a_task_that_lives_for_days_is_left_alone(world: World) -> None:
    world.add("long", Phase.RUNNING, age_seconds=100 * FORGOTTEN_SECONDS)
    world.run("long")
    world.sweep()
    assert (world.api.written, world.platform.stops, world.api.refreshed) == ([], [], [])


def test_when_nothing_has_happened_prefect_is_not_asked(world: World) -> None:
    world.add("alive", Phase.RUNNING)
    world.run("alive")
    world.sweep()
    assert world.api.requests == 0


# what is on its way


def test_a_launch_that_is_on_its_way_for_long_is_kept_from_being_taken_for_dead(world: World) -> None:
    world.add("pending", Phase.WAITING, age_seconds=SILENCE_SECONDS)
    world.run("pending", is_running=False)
    world.sweep()
    assert world.api.refreshed == []
    world.clock.turn(1)
    world.sweep()
    assert world.api.refreshed == ["pending"]


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.CANCELLING, Phase.CANCELLED])
def test_only_what_waits_is_refreshed(world: World, phase: Phase) -> None:
    world.add("other", phase, age_seconds=SILENCE_SECONDS + 1)
    world.run("other")
    world.sweep()
    assert world.api.refreshed == []


def test_what_has_ended_or_is_not_seen_is_not_kept_alive(world: World) -> None:
    world.add("ended", Phase.WAITING, age_seconds=SILENCE_SECONDS + 1)
    world.add("unseen", Phase.WAITING, age_seconds=SILENCE_SECONDS + 1)
    world.run("ended", stop=FAILED)
    world.sweep()
    assert world.api.refreshed == []


# what was cancelled


@pytest.mark.parametrize("phase", [Phase.CANCELLING, Phase.CANCELLED])
def test_what_was_cancelled_before_it_ran_is_stopped_at_once(world: World, phase: Phase) -> None:
    world.add("early", phase)
    world.run("early", is_running=False)
    world.sweep()
    assert world.platform.stops == [("Task early", "The flow run was cancelled")]


@pytest.mark.parametrize("phase", [Phase.CANCELLING, Phase.CANCELLED])
def test_what_runs_has_its_grace_to_end_by_itself(world: World, phase: Phase) -> None:
    world.add("running", phase, age_seconds=GRACE_SECONDS)
    world.run("running")
    world.sweep()
    assert world.stopped() == []
    world.clock.turn(1)
    world.sweep()
    assert world.stopped() == ["Task running"]


def test_a_cancelled_run_is_confirmed_once_its_task_has_ended_and_its_task_is_stopped_once(world: World) -> None:
    world.add("running", Phase.CANCELLING, age_seconds=GRACE_SECONDS + 1)
    world.run("running")
    world.sweep()
    assert world.api.written == []
    world.sweep()
    assert world.written() == {"running": Consequence.CONFIRM}
    assert world.stopped() == ["Task running"]


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.RUNNING])
def test_what_nobody_cancelled_is_not_stopped(world: World, phase: Phase) -> None:
    world.add("wanted", phase, age_seconds=GRACE_SECONDS + 1)
    world.run("wanted", is_running=phase is Phase.RUNNING)
    world.sweep()
    assert world.stopped() == []


def test_a_cancelled_run_without_a_sign_of_launch_is_looked_for_and_stopped(world: World) -> None:
    world.add("unsigned", Phase.CANCELLED, text="")
    world.run("unsigned", is_running=False)
    world.sweep()
    assert world.stopped() == ["Task unsigned"]


def test_a_cancelling_run_of_which_nothing_was_ever_launched_is_confirmed_at_once(world: World) -> None:
    world.add("unsigned", Phase.CANCELLING, text="")
    world.sweep()
    assert world.written() == {"unsigned": Consequence.CONFIRM}


def test_a_running_run_without_a_sign_of_launch_is_not_taken_for_dead_while_its_task_lives(world: World) -> None:
    world.add("unsigned", Phase.RUNNING, age_seconds=FORGOTTEN_SECONDS + 1, text="")
    world.run("unsigned")
    world.sweep()
    assert world.api.written == []


@pytest.mark.parametrize("phase", [Phase.CANCELLING, Phase.CANCELLED])
@pytest.mark.parametrize("text", ["Task restarted", ""])
@pytest.mark.parametrize("is_waiting", [True, False])
def test_the_new_task_of_a_run_that_was_restarted_since_it_was_read_is_not_stopped(
    world: World, phase: Phase, text: str, is_waiting: bool
) -> None:
    world.add("restarted", phase, text=text)
    world.run("restarted", stop=FAILED)
    world.platform.tasks["Task new"] = Sighting("restarted", "restarted-4", "Task new")
    new = Launched("restarted", "restarted-4", Phase.WAITING, world.clock.now(), "Task new")
    world.api.launched = [new] if is_waiting else []
    assert (world.sweep().errors, world.stopped()) == ([], [])


def test_a_task_that_was_adopted_for_a_restarted_run_is_not_stopped(world: World) -> None:
    world.add("restarted", Phase.CANCELLED)
    world.run("restarted", is_running=False)
    world.api.launched = [Launched("restarted", "restarted-4", Phase.WAITING, world.clock.now(), "Task restarted")]
    world.sweep()
    assert world.stopped() == []


def test_a_run_that_was_restarted_and_cancelled_again_has_its_whole_grace(world: World) -> None:
    world.add("again", Phase.CANCELLING, age_seconds=GRACE_SECONDS + 1)
    world.run("again")
    world.api.launched = [replace(world.launched[0], since=world.clock.now())]
    world.sweep()
    assert world.stopped() == []


def test_what_was_cancelled_is_not_stopped_while_prefect_cannot_say_whether_it_still_is(world: World) -> None:
    world.add("early", Phase.CANCELLED)
    world.run("early", is_running=False)
    world.add("dead", Phase.RUNNING)
    world.run("dead", stop=FAILED)
    world.api.read_trouble = PrefectUnreachable("away")
    assert world.sweep().errors == ["What was cancelled is not stopped: away"]
    assert (world.stopped(), world.written()) == ([], {"dead": Consequence.FAIL})
    world.api.read_trouble = None
    world.sweep()
    assert world.stopped() == ["Task early"]


def test_a_task_that_cannot_be_stopped_is_reported_and_the_others_are_stopped(world: World) -> None:
    for name in ("first", "second", "third"):
        world.add(name, Phase.CANCELLED)
        world.run(name, is_running=False)
    world.platform.unstoppable = {"Task second"}
    report = world.sweep()
    assert world.stopped() == ["Task first", "Task third"]
    assert report.errors == ["Task second of flow run second cannot be stopped: StopTask: throttled"]


# what runs without need


def stray(world: World, name: str, finished_seconds: float) -> None:
    """A task that lives although its run has finished so long before the strays are looked for."""
    world.turn_to_minute(0)
    world.run(name)
    world.api.finished[name] = world.clock.now() - timedelta(seconds=finished_seconds)


@pytest.mark.parametrize(
    ("strays", "counted", "stopped"), [("ignore", 0, []), ("report", 1, []), ("stop", 1, ["Task stray"])]
)
def test_strays_are_ignored_reported_or_stopped(world: World, strays: str, counted: int, stopped: list[str]) -> None:
    world.manners = Manners(strays=strays)
    stray(world, "stray", FORGOTTEN_SECONDS + 1)
    report = world.sweep()
    assert (report.strays, world.stopped()) == (counted, stopped)
    assert report.errors == []


def test_what_finished_within_the_hour_or_has_not_finished_is_no_stray(world: World) -> None:
    world.manners = Manners(strays="stop")
    stray(world, "recent", FORGOTTEN_SECONDS)
    world.run("busy")
    assert world.sweep().strays == 0
    assert world.stopped() == []


def test_strays_are_looked_for_in_the_first_minutes_of_an_hour_only(world: World) -> None:
    stray(world, "stray", FORGOTTEN_SECONDS + 1)
    counts = []
    for _ in range(60):
        counts.append(world.sweep().strays)
        world.clock.turn(60)
    assert counts == [1] * STRAYS_MINUTES + [0] * (60 - STRAYS_MINUTES)
    assert world.platform.listed == STRAYS_MINUTES


def test_a_stray_that_cannot_be_stopped_is_reported_and_the_others_are_stopped(world: World) -> None:
    world.manners = Manners(strays="stop")
    for name in ("a", "b", "c"):
        world.run(name)
        world.api.finished[name] = world.clock.now() - timedelta(days=1)
    world.turn_to_minute(4)
    world.platform.unstoppable = {"Task b"}
    report = world.sweep()
    assert (report.strays, world.stopped()) == (3, ["Task a", "Task c"])
    assert len(report.errors) == 1


# trouble


def test_a_platform_that_cannot_be_asked_is_reported_and_nothing_is_taken_for_dead(world: World) -> None:
    world.add("unseen", Phase.RUNNING, age_seconds=FORGOTTEN_SECONDS + 1)
    world.platform.look_trouble = LaunchDeferred("DescribeTasks: throttled")
    report = world.sweep()
    assert report.errors == ["The sweep is not complete: DescribeTasks: throttled"]
    assert world.api.written == []


def test_what_cannot_be_asked_about_alone_is_told_and_neither_taken_for_dead_nor_in_the_others_way(
    world: World,
) -> None:
    world.add("dead", Phase.RUNNING)
    world.run("dead", stop=FAILED)
    for name in ("forbidden", "forbidden too"):
        world.add(name, Phase.RUNNING, age_seconds=FORGOTTEN_SECONDS + 1)
        world.platform.tasks[f"Task {name}"] = Sighting("", None, f"Task {name}", trouble="not allowed there")
    report = world.sweep()
    assert world.written() == {"dead": Consequence.FAIL}
    assert report.errors == ["The sweep is not complete: not allowed there"]


def test_trouble_with_the_launches_does_not_keep_strays_from_being_found(world: World) -> None:
    world.platform.look_trouble = LaunchUnknown("away")
    stray(world, "stray", FORGOTTEN_SECONDS + 1)
    world.add("unseen", Phase.RUNNING)
    report = world.sweep()
    assert (report.strays, len(report.errors)) == (1, 1)


def test_a_sweep_that_breaks_off_for_a_reason_nobody_thought_of_does_not_take_the_ticks_report_with_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.add("unseen", Phase.RUNNING)
    world.platform.look_trouble = ZeroDivisionError("odd")
    stray(world, "stray", FORGOTTEN_SECONDS + 1)
    report = world.sweep()
    assert (report.strays, report.errors) == (1, ["The sweep broke off: ZeroDivisionError('odd')"])
    assert "The sweep broke off" in caplog.text


def test_of_a_run_that_was_cancelled_a_while_ago_nothing_else_is_looked_for(world: World) -> None:
    for name, age_seconds in (("now", SILENCE_SECONDS - 1), ("long ago", SILENCE_SECONDS + 1)):
        world.add(name, Phase.CANCELLED, age_seconds)
        world.run(name, stop=FAILED)
        other = Sighting(name, "another-key", f"Task other {name}", is_running=False)
        world.platform.tasks[other.text] = other
    world.sweep()
    assert world.stopped() == ["Task other now"]


def test_trouble_with_the_strays_does_not_keep_ends_from_being_told(world: World) -> None:
    world.turn_to_minute(0)
    world.platform.list_trouble = LaunchUnknown("ListTasks is not allowed")
    world.add("dead", Phase.RUNNING)
    world.run("dead", stop=FAILED)
    report = world.sweep()
    assert world.written() == {"dead": Consequence.FAIL}
    assert report.errors == ["The sweep is not complete: ListTasks is not allowed"]


def test_while_prefect_is_away_the_sweep_says_so_and_does_not_raise(world: World) -> None:
    world.add("dead", Phase.RUNNING)
    world.run("dead", stop=FAILED)
    world.api.trouble = PrefectUnreachable("away")
    assert world.sweep().errors == ["The sweep is not complete: away"]
    world.api.trouble = None
    world.sweep()
    assert world.written() == {"dead": Consequence.FAIL}


def test_a_launch_of_which_nobody_can_say_what_lives_is_named_and_holds_up_no_other(world: World) -> None:
    world.add("doubtful", Phase.RUNNING, age_seconds=FORGOTTEN_SECONDS + 1)
    world.platform.doubtful = {"doubtful"}
    world.add("dead", Phase.WAITING)
    world.run("dead", stop=FAILED)
    world.add("cancelled", Phase.CANCELLED)
    world.run("cancelled", is_running=False)
    report = world.sweep()
    assert report.errors == ["Flow run doubtful is not looked at: ListTasks: throttled"]
    assert (world.written(), world.stopped()) == ({"dead": Consequence.FAIL}, ["Task cancelled"])
    world.platform.doubtful = set()
    world.sweep()
    assert world.written() == {"dead": Consequence.FAIL, "doubtful": Consequence.FAIL}


def test_a_cancelled_run_is_stopped_although_prefect_cannot_be_written_to(world: World) -> None:
    world.add("dead", Phase.RUNNING)
    world.run("dead", stop=FAILED)
    world.add("cancelled", Phase.CANCELLED)
    world.run("cancelled", is_running=False)
    world.api.trouble = PrefectUnreachable("away")
    report = world.sweep()
    assert (world.stopped(), world.api.written) == (["Task cancelled"], [])
    assert report.errors == ["The sweep is not complete: away"]
