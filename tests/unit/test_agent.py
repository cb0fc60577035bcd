"""The tick against an API and a platform in memory: what it decides, in which order, and when it stops."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.agent import READING_AGE_LIMIT_SECONDS, Agent
from chalicelib.errors import (
    LaunchDeferred,
    LaunchForbidden,
    LaunchRejected,
    LaunchUnknown,
    PrefectUnreachable,
    UnsupportedRun,
)
from chalicelib.flow_runs import Claim, Flow, FlowRun, Place, TaskRun, WorkPoolJob, launch_key
from chalicelib.launches import adopt
from chalicelib.outcomes import Answer, Outcome
from chalicelib.sightings import Consequence, Own, Sighting
from chalicelib.sweep import Manners
from tests.doubles.clock import TurnedClock


@dataclass
class MemoryAPI:
    """A PrefectAPI whose runs are claimed once and recorded in a list; `page` runs are shown at a time."""

    clock: TurnedClock
    runs: list[FlowRun] = field(default_factory=list)
    page: int = 25
    foreign: set[str] = field(default_factory=set)
    recorded: list[Outcome] = field(default_factory=list)
    claims: list[str] = field(default_factory=list)
    polled_before: list[datetime] = field(default_factory=list)
    away_after_polls: int | None = None
    claim_seconds: float = 0.0
    on_poll: Callable[[int], object] = lambda number: None
    orphans: list[Claim] = field(default_factory=list)

    orphans_trouble: Exception | None = None

    def find_own(self, place: Place) -> Own:
        if self.orphans_trouble:
            raise self.orphans_trouble
        return Own(tuple(self.orphans))

    def record_stops(self, stops: Sequence[Sighting], alive: Sequence[Sighting] = ()) -> list[Consequence]:
        raise AssertionError("there is nothing to record")

    def find_finished(self, run_ids: Sequence[str], before: datetime) -> set[str]:
        raise AssertionError("there is nothing to look for")

    def record_and_poll(self, outcomes: Sequence[Outcome], before: datetime) -> list[FlowRun]:
        if self.away_after_polls is not None and len(self.polled_before) >= self.away_after_polls:
            raise PrefectUnreachable("away")
        self.recorded += outcomes
        self.polled_before.append(before)
        self.on_poll(len(self.polled_before))
        done = {outcome.run.id for outcome in self.recorded} | set(self.claims)
        due = [run for run in self.runs if run.start_time <= before and run.id not in done]
        return sorted(due, key=lambda run: run.start_time)[: self.page]

    def claim(self, runs: Sequence[FlowRun], place: Place) -> list[Claim]:
        ours = [run for run in runs if run.id not in self.foreign]
        self.claims += [run.id for run in ours]
        claims = [Claim(run, launch_key(run), self.clock.now()) for run in ours]
        self.clock.turn(self.claim_seconds)
        return claims


@dataclass
class MemoryPlatform:
    """A Launcher that answers as it was told to for each run id, and remembers when it launched what."""

    clock: TurnedClock
    build_troubles: dict[str, Exception] = field(default_factory=dict)
    launch_troubles: dict[str, Exception] = field(default_factory=dict)
    launched: dict[str, datetime] = field(default_factory=dict)
    alive: dict[str, Sighting] = field(default_factory=dict)
    room_for: int = 1000
    build_seconds: float = 0.0
    slow_builds: dict[str, float] = field(default_factory=dict)
    is_mute: bool = False
    on_launch: Callable[[str], object] = lambda run_id: None
    place: Place = field(default_factory=lambda: Place("memory", "here"))

    def build(self, run: FlowRun) -> Any:
        self.clock.turn(self.slow_builds.get(run.id, self.build_seconds))
        if run.id in self.build_troubles:
            raise self.build_troubles[run.id]
        return run.id

    def room(self, seconds: float) -> int:
        return self.room_for

    def find_alive(self, run_id: str) -> Sighting | None:
        if self.is_mute:
            raise LaunchUnknown("throttled")
        return self.alive.get(run_id)

    def look_at(self, texts: Sequence[str]) -> list[Sighting]:
        return []

    def read_events(self, bodies: Sequence[str]) -> list[str]:
        return []

    def list_alive(self) -> list[Sighting]:
        return []

    def stop(self, sighting: Sighting, reason: str) -> None:
        raise AssertionError("there is nothing to stop")

    def launch(self, request: Any, key: str, start_until: datetime) -> str:
        if self.clock.now() > start_until:
            raise LaunchUnknown("too late")
        if request in self.launch_troubles:
            raise self.launch_troubles[request]
        self.on_launch(request)
        assert key not in self.launched, "two launches with one key"
        self.launched[key] = self.clock.now()
        return f"Task {key}"


class World:
    """A clock, an API, a platform and the agent between them."""

    def __init__(self) -> None:
        self.clock = TurnedClock()
        self.api = MemoryAPI(self.clock)
        self.platform = MemoryPlatform(self.clock)
        self.agent = Agent(self.api, self.platform, self.clock)

    def add(self, *names: str, in_seconds: float = 0.0) -> None:
        start = self.clock.now() + timedelta(seconds=in_seconds)
        self.api.runs += [FlowRun(name, name, 1, start, Flow("flow", "a flow")) for name in names]

    def orphan(self, name: str, age_seconds: float, **changes: Any) -> None:
        start = self.clock.now() - timedelta(seconds=age_seconds)
        run = replace(FlowRun(name, name, 2, start, Flow("flow", "a flow")), **changes)
        self.api.orphans.append(Claim(run, f"{name}-1", start))

    def recover(self) -> dict[str, Any]:
        return self.agent.tick(self.clock.now() + timedelta(seconds=10), recovers=True).as_dict()

    def tick(self, seconds: float = 10.0) -> dict[str, Any]:
        return self.agent.tick(self.clock.now() + timedelta(seconds=seconds)).as_dict()

    def answers(self) -> dict[str, Answer]:
        return {outcome.run.id: outcome.answer for outcome in self.api.recorded}


@pytest.fixture
def world() -> World:
    return World()


def test_an_idle_tick_polls_once_and_reports_nothing(world: World) -> None:
    report = world.tick()
    assert len(world.api.polled_before) == 1
    assert report["found"] == 0
    assert report["errors"] == []


def test_due_runs_are_claimed_launched_and_recorded_with_the_identification_of_the_deployment(world: World) -> None:
    world.add("a", "b")
    report = world.tick()
    assert world.answers() == {"a": Answer.LAUNCHED, "b": Answer.LAUNCHED}
    assert [outcome.text for outcome in world.api.recorded] == ["Task a-1", "Task b-1"]
    assert (report["found"], report["claimed"], report["launched"]) == (2, 2, 2)


def test_a_backlog_of_several_pages_is_drained_in_one_tick(world: World) -> None:
    world.add(*(f"run{i}" for i in range(70)))
    assert world.tick()["launched"] == 70
    # The first page, one after it, one beside the launches of each further page, and one that records the last of them.
    assert len(world.api.polled_before) == 5
    assert sorted(world.answers()) == sorted(f"run{i}" for i in range(70))


def test_in_a_backlog_the_next_page_is_read_while_the_last_one_is_launched(world: World) -> None:
    world.add(*(f"run{i}" for i in range(70)))
    third_poll = threading.Event()
    world.api.on_poll = lambda number: third_poll.set() if number == 3 else None
    world.platform.on_launch = lambda run_id: int(run_id[3:]) < 25 or third_poll.wait(20)
    assert world.tick()["launched"] == 70


def test_an_api_that_goes_away_beside_the_launches_costs_the_report_nothing_of_them(world: World) -> None:
    world.add(*(f"run{i}" for i in range(60)))
    world.api.away_after_polls = 2
    report = world.tick()
    assert (report["claimed"], report["launched"], report["errors"]) == (50, 50, ["away"])


def test_what_was_read_beside_slow_launches_is_read_again_before_it_is_claimed(world: World) -> None:
    world.add(*(f"run{i}" for i in range(60)))
    is_read = threading.Event()

    class Clock(TurnedClock):
        def now(self) -> datetime:
            if len(world.api.polled_before) == 3 and threading.current_thread() is threading.main_thread():
                is_read.set()
            return world.clock.now()

    def launch_slowly(run_id: str) -> None:
        if run_id == "run30":
            assert is_read.wait(20)
            world.clock.turn(READING_AGE_LIMIT_SECONDS)

    world.agent.clock = Clock()
    world.platform.on_launch = launch_slowly
    assert world.tick(30)["launched"] == 60
    # One reading more than if it were still fresh.
    assert len(world.api.polled_before) == 6


def test_a_fault_of_the_agents_own_that_shows_beside_the_reading_ends_the_claiming(world: World) -> None:
    world.add(*(f"run{i}" for i in range(80)))
    world.platform.launch_troubles = {f"run{i}": LaunchForbidden("no such cluster") for i in range(25, 80)}
    report = world.tick()
    assert (report["claimed"], report["launched"]) == (50, 25)
    assert world.answers()["run25"] is Answer.REFUSED_FOR_GOOD
    assert set(world.answers()) == {f"run{i}" for i in range(50)}


def test_a_run_that_somebody_else_claimed_is_skipped_and_not_asked_for_again(world: World) -> None:
    world.add("mine", "theirs")
    world.api.foreign = {"theirs"}
    report = world.tick()
    assert world.answers() == {"mine": Answer.LAUNCHED}
    assert (report["found"], report["claimed"]) == (2, 1)


def test_a_run_that_is_put_off_instead_of_claimed_is_not_claimed_again_in_the_same_tick(world: World) -> None:
    world.add("full")
    world.api.foreign.add("full")

    def put_off(_number: int) -> None:
        world.api.runs = [replace(run, version=run.version + 1) for run in world.api.runs]

    world.api.on_poll = put_off
    assert world.tick()["found"] == 1


def test_a_run_that_was_put_off_for_an_hour_while_it_was_read_is_not_waited_for(world: World) -> None:
    begun, hour = world.clock.now(), timedelta(hours=1)
    world.add("later")
    read = world.api.record_and_poll
    put_off = lambda *asked: [replace(run, start_time=run.start_time + hour) for run in read(*asked)]  # noqa: E731
    world.api.record_and_poll = put_off  # type: ignore[method-assign]
    assert world.tick()["claimed"] == 0
    assert world.clock.now() == begun


def test_a_run_that_is_due_within_the_tick_is_launched_at_its_start_time_and_not_before(world: World) -> None:
    world.add("soon", in_seconds=5)
    due = world.clock.now() + timedelta(seconds=5)
    world.tick()
    assert world.platform.launched["soon-1"] == due
    assert world.api.claims == ["soon"]


def test_a_run_that_is_waited_for_is_read_again_before_its_claim(world: World) -> None:
    world.add("soon", in_seconds=5)
    world.tick()
    # Once when it was found, once just before it was due, once after its launch.
    assert len(world.api.polled_before) == 3


@pytest.mark.parametrize("in_seconds", [0.0, 0.3, 0.5, 0.7, 5.0])
def test_what_reading_and_building_take_is_no_lateness(world: World, in_seconds: float) -> None:
    world.add("soon", in_seconds=in_seconds)
    due = world.clock.now() + timedelta(seconds=in_seconds)
    world.api.on_poll = lambda _: world.clock.turn(0.1)
    world.platform.build_seconds = 0.1
    world.tick()
    assert max(timedelta(), world.platform.launched["soon-1"] - due) <= timedelta(seconds=max(0.0, 0.2 - in_seconds))


def test_of_runs_that_are_due_one_after_the_other_each_is_launched_at_its_time(world: World) -> None:
    moments = {f"run{number}": 1.0 + 0.2 * number for number in range(10)}
    for name, in_seconds in moments.items():
        world.add(name, in_seconds=in_seconds)
    begun = world.clock.now()
    world.tick()
    launched = {key: (moment - begun).total_seconds() for key, moment in world.platform.launched.items()}
    assert launched == {f"{name}-1": pytest.approx(in_seconds) for name, in_seconds in moments.items()}


def test_a_run_that_is_gone_shortly_before_its_time_is_not_claimed(world: World) -> None:
    world.add("soon", in_seconds=5)
    world.api.on_poll = lambda number: world.api.runs.clear() if number == 2 else None
    assert world.tick()["claimed"] == 0
    assert world.platform.launched == {}


def test_what_was_launched_is_recorded_before_the_next_run_is_waited_for(world: World) -> None:
    world.add("first", "second", in_seconds=0)
    world.api.page = 1
    world.add("later", in_seconds=6)
    later = world.clock.now() + timedelta(seconds=6)
    recorded_at: dict[int, datetime] = {}
    world.api.on_poll = lambda _: recorded_at.setdefault(len(world.api.recorded), world.clock.now())
    world.tick()
    assert recorded_at[2] < later - timedelta(seconds=5)
    assert world.platform.launched["later-1"] == later


# Lingering


def lingering(world: World, seconds: float) -> None:
    world.agent = Agent(world.api, world.platform, world.clock, Manners(linger_seconds=seconds))


def test_a_tick_that_lingers_starts_what_follows_a_launch(world: World) -> None:
    lingering(world, 8)
    world.add("first")
    follows = world.clock.now() + timedelta(seconds=3)
    second = FlowRun("second", "second", 1, follows, Flow("flow", "a flow"))
    world.api.on_poll = lambda _: world.api.runs.append(second) if world.clock.now() >= follows else None
    world.tick()
    assert set(world.platform.launched) == {"first-1", "second-1"}
    assert world.platform.launched["second-1"] - follows < timedelta(seconds=2)


def test_a_tick_lingers_after_a_launch_alone(world: World) -> None:
    lingering(world, 8)
    begun = world.clock.now()
    world.tick()
    assert world.clock.now() == begun
    assert len(world.api.polled_before) == 1


@pytest.mark.parametrize(("linger_seconds", "polls"), [(0.0, 2), (0.3, 3), (2.0, 5), (8.0, 7)])
def test_a_tick_lingers_no_longer_than_it_may(world: World, linger_seconds: float, polls: int) -> None:
    lingering(world, linger_seconds)
    world.add("only")
    begun = world.clock.now()
    world.tick()
    assert (world.clock.now() - begun).total_seconds() <= linger_seconds
    assert len(world.api.polled_before) == polls


def test_a_tick_that_lingers_ends_before_the_next_one(world: World) -> None:
    lingering(world, 8)
    world.add("only")
    begun = world.clock.now()
    world.tick(seconds=5)
    assert world.clock.now() <= begun + timedelta(seconds=3)


def test_nothing_is_asked_for_that_falls_due_after_the_last_claim_of_the_tick(world: World) -> None:
    world.add("later", in_seconds=9)
    begun = world.clock.now()
    assert world.tick(seconds=10)["found"] == 0
    assert world.api.polled_before == [begun + timedelta(seconds=8)]


def test_no_more_is_claimed_than_can_be_launched_in_time(world: World) -> None:
    world.add(*(f"run{i}" for i in range(10)))
    world.platform.room_for = 4
    world.agent.tick(world.clock.now() + timedelta(seconds=10))
    assert len(world.api.claims) == 10, "the rest is claimed after the first have been launched"
    assert [outcome.run.id for outcome in world.api.recorded[:4]] == ["run0", "run1", "run2", "run3"]


def test_nothing_is_claimed_after_the_deadline_but_what_was_launched_is_recorded(world: World) -> None:
    world.add(*(f"run{i}" for i in range(30)))
    world.platform.build_seconds = 0.1
    world.tick(seconds=3)
    assert world.answers() == dict.fromkeys([f"run{i}" for i in range(25)], Answer.LAUNCHED)


def test_what_took_too_long_to_build_is_read_again_before_it_is_claimed(world: World) -> None:
    world.add("slow")
    world.platform.build_seconds = READING_AGE_LIMIT_SECONDS + 1
    world.tick(seconds=10)
    assert world.api.claims == []


@pytest.mark.parametrize(
    ("trouble", "answer"),
    [
        (LaunchRejected("no such image"), Answer.REFUSED_FOR_GOOD),
        (LaunchDeferred("throttled"), Answer.REFUSED_FOR_NOW),
        (LaunchUnknown("time-out"), Answer.UNKNOWN),
        (RuntimeError("a bug"), Answer.UNKNOWN),
    ],
)
def test_each_answer_of_the_platform_is_recorded_as_such_and_the_other_runs_go_on(
    world: World, trouble: Exception, answer: Answer
) -> None:
    world.add("bad", "good")
    world.platform.launch_troubles = {"bad": trouble}
    world.tick()
    assert world.answers() == {"bad": answer, "good": Answer.LAUNCHED}


def test_a_run_that_cannot_be_built_fails_without_a_claim(world: World) -> None:
    world.add("bad", "good")
    world.platform.build_troubles = {"bad": UnsupportedRun("a DockerRun")}
    world.tick()
    assert world.answers() == {"bad": Answer.IMPOSSIBLE, "good": Answer.LAUNCHED}
    assert world.api.claims == ["good"]


def test_a_run_that_breaks_the_builder_fails_alone(world: World) -> None:
    world.add("poison", "good")
    world.platform.build_troubles = {"poison": ZeroDivisionError("poison")}
    world.tick()
    assert world.answers() == {"poison": Answer.IMPOSSIBLE, "good": Answer.LAUNCHED}


def test_a_look_up_that_fails_for_now_defers_the_run_without_a_claim(world: World) -> None:
    world.add("unlucky", "good")
    world.platform.build_troubles = {"unlucky": LaunchDeferred("throttled")}
    world.tick()
    assert world.api.claims == ["good"]
    assert world.answers() == {"unlucky": Answer.REFUSED_FOR_NOW, "good": Answer.LAUNCHED}


def test_a_page_of_runs_that_cannot_be_looked_up_does_not_hide_the_runs_behind_it(world: World) -> None:
    unlucky = [f"run{i}" for i in range(25)]
    world.add(*unlucky, "behind")
    world.platform.build_troubles = {name: LaunchDeferred("throttled") for name in unlucky}
    world.tick()
    assert world.answers()["behind"] is Answer.LAUNCHED


def test_a_fault_of_the_agents_own_fails_one_run_gives_the_others_back_and_ends_the_tick(world: World) -> None:
    world.add(*(f"run{i}" for i in range(30)))
    world.platform.launch_troubles = {f"run{i}": LaunchForbidden("not allowed") for i in range(30)}
    world.tick()
    answers = list(world.answers().values())
    assert answers.count(Answer.REFUSED_FOR_GOOD) == 1
    assert answers.count(Answer.REFUSED_FOR_NOW) == 24
    assert len(world.api.claims) == 25, "nothing is claimed after the fault showed"


def test_a_fault_of_the_agents_own_that_shows_while_building_claims_nothing(world: World) -> None:
    world.add("a", "b", "c")
    world.platform.build_troubles = {"b": LaunchForbidden("no default VPC")}
    world.tick()
    assert world.api.claims == []
    assert world.answers() == {"b": Answer.IMPOSSIBLE}


def test_a_tick_whose_first_poll_fails_raises(world: World) -> None:
    world.api.away_after_polls = 0
    with pytest.raises(PrefectUnreachable):
        world.tick()


def test_a_tick_that_loses_the_api_later_reports_it(world: World) -> None:
    world.add("a")
    world.api.away_after_polls = 1
    report = world.tick()
    assert report["launched"] == 1
    assert report["errors"] == ["away"]


def test_a_preview_builds_and_claims_nothing(world: World) -> None:
    world.add("good", "bad")
    world.platform.build_troubles = {"bad": UnsupportedRun("a DockerRun")}
    previews = world.agent.preview(world.clock.now())
    assert [preview.request for preview in previews] == ["good", None]
    assert [preview.refusal.text for preview in previews if preview.refusal] == ["a DockerRun"]
    assert world.api.claims == []


def test_an_orphan_is_launched_again_with_the_key_of_its_claim(world: World) -> None:
    world.orphan("lost", age_seconds=100)
    report = world.recover()
    assert list(world.platform.launched) == ["lost-1"]
    assert world.answers() == {"lost": Answer.LAUNCHED}
    assert (report["recovered"], report["claimed"], report["launched"]) == (1, 0, 1)


def test_a_tick_between_two_scheduled_ones_recovers_nothing(world: World) -> None:
    world.orphan("lost", age_seconds=100)
    world.tick()
    assert world.platform.launched == {}


def test_orphans_that_are_slow_to_build_are_launched_over_the_ticks_and_hold_up_what_is_due_for_one_tick(
    world: World,
) -> None:
    for number in range(40):
        world.orphan(f"slow{number}", 120)
        world.platform.slow_builds[f"slow{number}"] = 1.0
    world.add("due")
    ticks = 0
    while world.api.orphans:
        begun, ticks = world.clock.now(), ticks + 1
        world.recover()
        assert (world.clock.now() - begun).total_seconds() < 15
        assert "due" in world.api.claims
        world.api.orphans = [claim for claim in world.api.orphans if claim.key not in world.platform.launched]
    assert ticks < 10


def test_an_orphan_whose_building_hangs_is_not_the_first_each_time(world: World) -> None:
    for number in range(5):
        world.orphan(f"hangs{number}", 120)
        world.platform.slow_builds[f"hangs{number}"] = 20.0
        world.platform.launch_troubles[f"hangs{number}"] = LaunchUnknown("no answer")
    world.orphan("fine", 60)
    for _ in range(200):
        world.recover()
        if "fine-1" in world.platform.launched:
            break
    assert "fine-1" in world.platform.launched


def test_of_orphans_that_a_fault_of_the_agents_own_hits_one_fails_and_the_others_stay_claimed(world: World) -> None:
    for name in ("one", "another", "third"):
        world.orphan(name, 120)
        world.platform.slow_builds[name] = 3.0
        world.platform.build_troubles[name] = LaunchForbidden("not allowed")
    report = world.recover()
    assert (report["recovered"], report["impossible"]) == (1, 1)


def test_an_orphan_that_the_platform_may_have_forgotten_is_never_launched_with_its_key(world: World) -> None:
    world.orphan("old", age_seconds=51 * 60)
    world.recover()
    assert world.platform.launched == {}
    assert world.answers() == {"old": Answer.REFUSED_FOR_NOW}


def test_an_old_orphan_that_lives_is_recorded(world: World) -> None:
    world.orphan("old", age_seconds=51 * 60)
    world.platform.alive = {"old": Sighting("old", "old-1", "Task old")}
    world.recover()
    assert [(outcome.answer, outcome.text) for outcome in world.api.recorded] == [(Answer.LAUNCHED, "Task old")]


def test_an_orphan_that_cannot_be_built_any_more_fails_under_its_claim(world: World) -> None:
    world.orphan("bad", age_seconds=100)
    world.platform.build_troubles = {"bad": UnsupportedRun("a DockerRun")}
    world.recover()
    assert [(outcome.answer, outcome.claim) for outcome in world.api.recorded] == [
        (Answer.IMPOSSIBLE, world.api.orphans[0])
    ]


def test_a_run_that_was_launched_before_and_lives_is_adopted_and_not_launched_twice(world: World) -> None:
    world.add("again")
    world.api.runs = [replace(run, was_claimed_before=True) for run in world.api.runs]
    world.platform.alive = {"again": Sighting("again", "another-key", "Task older")}
    world.tick()
    assert world.platform.launched == {}
    assert [(outcome.answer, outcome.text) for outcome in world.api.recorded] == [(Answer.LAUNCHED, "Task older")]


def test_a_retry_waits_for_the_end_of_the_container_that_ran_before(world: World) -> None:
    world.add("retry")
    due = (TaskRun("task-1", 3),)
    world.api.runs = [replace(run, was_claimed_before=True, due_task_runs=due) for run in world.api.runs]
    world.platform.alive = {"retry": Sighting("retry", "another-key", "Task older")}
    world.tick()
    assert world.answers() == {"retry": Answer.REFUSED_FOR_NOW}
    assert world.platform.launched == {}


def test_a_tick_that_slept_for_an_hour_after_its_claim_does_not_launch_with_the_old_key(world: World) -> None:
    world.add("a")
    world.api.claim_seconds = 3600
    world.tick()
    assert world.platform.launched == {}
    assert world.answers() == {"a": Answer.REFUSED_FOR_NOW}


def test_a_run_that_is_slow_to_build_does_not_hold_up_the_others(world: World) -> None:
    world.add("slow")
    world.add("good")
    world.platform.slow_builds = {"slow": READING_AGE_LIMIT_SECONDS + 1}
    report = world.tick(seconds=30)
    assert world.answers() == {"good": Answer.LAUNCHED}
    assert "slow" in report["errors"][0]


def test_a_slow_refusal_is_recorded_all_the_same(world: World) -> None:
    world.add("hanging", "good")
    world.platform.slow_builds = {"hanging": 20.0}
    world.platform.build_troubles = {"hanging": LaunchDeferred("S3 is away")}
    world.tick(seconds=60)
    assert world.answers() == {"hanging": Answer.REFUSED_FOR_NOW, "good": Answer.LAUNCHED}


def test_a_tick_that_stood_still_after_its_claim_leaves_the_launch_to_recovery(world: World) -> None:
    world.add("a")
    world.api.claim_seconds = 100
    world.tick()
    assert world.platform.launched == {}
    assert world.answers() == {"a": Answer.UNKNOWN}


def test_runs_spared_from_the_agents_own_fault_do_not_run_out_of_time(world: World) -> None:
    world.add("a", "b")
    world.platform.launch_troubles = {name: LaunchForbidden("not allowed") for name in ("a", "b")}
    world.tick()
    assert [(outcome.run.id, outcome.counts) for outcome in world.api.recorded] == [("a", True), ("b", False)]


def test_an_orphan_that_lives_is_recorded_though_it_cannot_be_built_any_more(world: World) -> None:
    world.orphan("lost", age_seconds=100, was_claimed_before=True)
    world.platform.build_troubles = {"lost": UnsupportedRun("its template is gone")}
    world.platform.alive = {"lost": Sighting("lost", "lost-1", "Task lost")}
    world.recover()
    assert world.answers() == {"lost": Answer.LAUNCHED}


def test_an_orphan_of_which_nobody_can_say_whether_it_lives_stays_claimed(world: World) -> None:
    world.orphan("lost", age_seconds=100, was_claimed_before=True)
    world.platform.build_troubles = {"lost": UnsupportedRun("its template is gone")}
    world.platform.is_mute = True
    world.recover()
    assert world.answers() == {"lost": Answer.UNKNOWN}


def test_a_recovery_that_fails_does_not_stop_the_tick(world: World) -> None:
    world.add("a")
    world.api.orphans_trouble = PrefectUnreachable("too slow")
    report = world.recover()
    assert world.answers() == {"a": Answer.LAUNCHED}
    assert "too slow" in report["errors"][0]


# what of a run lives already


def read_again(version: int = 9, begun_version: int = 0) -> FlowRun:
    """A run that is due once more; its flow had begun by `begun_version`."""
    start = TurnedClock().now()
    return FlowRun("run", "run", version, start, Flow("flow", "a flow"), begun_version=begun_version)


def adopt_with_key(run: FlowRun, key: str | None) -> Outcome:
    claim = Claim(run, launch_key(run), run.start_time)
    return adopt(run, claim, Sighting(run.id, key, "Task older"))


@given(st.integers(1, 1000), st.integers(0, 1000), st.sampled_from(["", "-0a1b2c3d-4"]))
def test_what_lives_is_adopted_unless_its_run_has_begun_since_its_claim(claimed: int, begun: int, retry: str) -> None:
    outcome = adopt_with_key(read_again(1001, begun), f"run-{claimed}{retry}")
    answer = Answer.REFUSED_FOR_NOW if begun > claimed else Answer.LAUNCHED
    assert (outcome.answer, outcome.counts) == (answer, answer is Answer.LAUNCHED)
    assert "Task older" in outcome.text


def test_what_this_very_claim_has_launched_is_adopted_whatever_has_begun() -> None:
    run = read_again(3, begun_version=5)
    assert adopt_with_key(run, launch_key(run)).answer is Answer.LAUNCHED
    retry = replace(run, due_task_runs=(TaskRun("task-1", 3),))
    assert adopt_with_key(retry, launch_key(retry)).answer is Answer.LAUNCHED


@pytest.mark.parametrize(("begun_version", "answer"), [(0, Answer.LAUNCHED), (1, Answer.REFUSED_FOR_NOW)])
def test_what_bears_no_key_is_adopted_only_while_its_run_has_never_begun(begun_version: int, answer: Answer) -> None:
    assert adopt_with_key(read_again(9, begun_version), None).answer is answer


def test_a_run_that_began_in_a_container_that_still_lives_is_given_back_and_not_launched_beside_it(
    world: World,
) -> None:
    world.add("again")
    world.api.runs = [replace(run, version=7, was_claimed_before=True, begun_version=3) for run in world.api.runs]
    world.platform.alive = {"again": Sighting("again", "again-1", "Task older", is_running=True)}
    world.tick()
    assert world.platform.launched == {}
    assert [(outcome.answer, outcome.counts) for outcome in world.api.recorded] == [(Answer.REFUSED_FOR_NOW, False)]


def test_a_fault_of_the_agents_own_in_one_work_pool_stops_no_other(world: World) -> None:
    for name, pool in (("a", "good"), ("b", "bad"), ("c", "bad"), ("d", "good")):
        world.add(name)
        world.api.runs[-1] = replace(world.api.runs[-1], job=WorkPoolJob({"name": pool, "type": "ecs"}, {}))
    world.platform.build_troubles = {"b": LaunchForbidden("no default VPC")}
    report = world.tick()
    assert set(world.platform.launched) == {"a-1", "d-1"}
    assert (report["impossible"], report["launched"]) == (1, 2)
    assert "no default VPC" in report["errors"][0]


def test_a_first_poll_that_takes_all_of_the_ticks_time_is_followed_by_launches_all_the_same(world: World) -> None:
    world.add("a")
    world.api.on_poll = lambda number: world.clock.turn(15 if number == 1 else 0)
    assert world.tick()["launched"] == 1
