"""One launcher for work pools of several types: who gets which run, which text, and whose trouble is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from chalicelib.errors import LaunchForbidden, LaunchUnknown, SettingsError, UnsupportedRun
from chalicelib.flow_runs import Flow, FlowRun, Place, WorkPoolJob
from chalicelib.launchers.work_pools import WorkPoolLauncher
from chalicelib.sightings import Sighting

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class MemoryPlatform:
    """A Launcher that keeps what it started by its text."""

    kind: str
    capacity: int = 10
    started: dict[str, Sighting] = field(default_factory=dict)
    trouble: Exception | None = None

    @property
    def place(self) -> Place:
        return Place(self.kind, "here")

    def build(self, run: FlowRun) -> Any:
        return run.id

    def room(self, seconds: float) -> int:
        return self.capacity

    def launch(self, request: Any, key: str, start_until: datetime) -> str:
        text = f"{self.kind} {key}"
        self.started[text] = Sighting(request, key, text)
        return text

    def find_alive(self, run_id: str) -> Sighting | None:
        return next((sighting for sighting in self.started.values() if sighting.run_id == run_id), None)

    def look_at(self, texts: Sequence[str]) -> list[Sighting]:
        if self.trouble:
            raise self.trouble
        return [self.started[text] for text in texts]

    def read_events(self, bodies: Sequence[str]) -> list[str]:
        return [f"{self.kind} {body}" for body in bodies]

    def list_alive(self) -> list[Sighting]:
        return list(self.started.values())

    def stop(self, sighting: Sighting, reason: str) -> None:
        del self.started[sighting.text]


def run_of(pool_type: str, run_id: str = "run") -> FlowRun:
    pool = {"name": f"my-{pool_type}", "type": pool_type}
    return FlowRun(run_id, run_id, 1, NOW, Flow("flow", "flow"), job=WorkPoolJob(pool, {"id": run_id}))


@pytest.fixture
def platforms() -> dict[str, MemoryPlatform]:
    return {"ecs": MemoryPlatform("Task"), "kubernetes": MemoryPlatform("Job", capacity=3)}


@pytest.fixture
def launcher(platforms: dict[str, MemoryPlatform]) -> WorkPoolLauncher:
    return WorkPoolLauncher({name: partial(platforms.__getitem__, name) for name in platforms}, lambda: platforms)


def test_each_run_goes_to_the_platform_of_its_pool(
    launcher: WorkPoolLauncher, platforms: dict[str, MemoryPlatform]
) -> None:
    texts = [launcher.launch(launcher.build(run_of(kind, kind)), f"key-{kind}", NOW) for kind in platforms]
    assert texts == ["Task key-ecs", "Job key-kubernetes"]
    assert {sighting.run_id for sighting in launcher.list_alive()} == {"ecs", "kubernetes"}
    assert [sighting.text for sighting in launcher.look_at(texts)] == texts
    alive = launcher.find_alive("kubernetes")
    assert alive is not None
    launcher.stop(alive, "no more")
    assert platforms["kubernetes"].started == {}
    assert len(platforms["ecs"].started) == 1


def test_a_pool_of_a_type_that_nobody_launches_is_told_with_those_that_are(launcher: WorkPoolLauncher) -> None:
    with pytest.raises(UnsupportedRun, match="work pool my-vertex is of type vertex; this agent serves ecs, kubern"):
        launcher.build(run_of("vertex"))


def test_no_more_is_claimed_than_the_slowest_platform_in_use_takes(launcher: WorkPoolLauncher) -> None:
    launcher.build(run_of("ecs"))
    assert launcher.room(10) == 10
    launcher.build(run_of("kubernetes"))
    assert launcher.room(10) == 3


def test_a_platform_is_made_when_its_type_first_occurs_and_its_lack_of_settings_is_the_agents_own_fault() -> None:
    def refuse() -> MemoryPlatform:
        raise SettingsError(["there is no kubeconfig"])

    launcher = WorkPoolLauncher({"ecs": lambda: MemoryPlatform("Task"), "kubernetes": refuse}, lambda: ["ecs"])
    assert launcher.find_alive("run") is None
    assert launcher.build(run_of("ecs")).request == "run"
    with pytest.raises(LaunchForbidden, match="my-kubernetes cannot be served: there is no kubeconfig"):
        launcher.build(run_of("kubernetes"))


def test_a_platform_that_cannot_be_asked_leaves_the_other_to_be_seen(
    launcher: WorkPoolLauncher, platforms: dict[str, MemoryPlatform]
) -> None:
    texts = [launcher.launch(launcher.build(run_of(kind, kind)), kind, NOW) for kind in platforms]
    platforms["ecs"].trouble = LaunchUnknown("ECS is away")
    lost, seen = sorted(launcher.look_at(texts), key=lambda sighting: sighting.run_id)
    assert (lost.text, lost.trouble) == ("Task ecs", "ECS is away")
    assert (seen.run_id, seen.trouble) == ("kubernetes", "")


def test_when_no_platform_can_be_asked_that_is_raised(
    launcher: WorkPoolLauncher, platforms: dict[str, MemoryPlatform]
) -> None:
    text = launcher.launch(launcher.build(run_of("ecs")), "key", NOW)
    platforms["ecs"].trouble = LaunchUnknown("ECS is away")
    with pytest.raises(LaunchUnknown, match="ECS is away"):
        launcher.look_at([text])
    assert launcher.look_at([]) == []


def test_messages_are_shown_to_every_platform(launcher: WorkPoolLauncher) -> None:
    assert launcher.read_events(["a"]) == ["Task a", "Job a"]


def test_a_platform_that_is_away_is_no_trouble_of_the_runs_of_another(platforms: dict[str, MemoryPlatform]) -> None:
    class Away(MemoryPlatform):
        def find_alive(self, run_id: str) -> Sighting | None:
            raise LaunchUnknown("it is away")

    platforms["kubernetes"] = Away("Job")
    launcher = WorkPoolLauncher({name: partial(platforms.__getitem__, name) for name in platforms}, lambda: platforms)
    text = launcher.launch(launcher.build(run_of("ecs", "built")), "key", NOW)
    assert launcher.find_alive("built") == Sighting("built", "key", text)
    with pytest.raises(LaunchUnknown, match="it is away"):
        launcher.find_alive("of nowhere known")


def test_what_was_looked_at_is_known_to_be_of_its_platform(platforms: dict[str, MemoryPlatform]) -> None:
    platforms["ecs"].started["Task key"] = Sighting("seen", "key", "Task key")
    launcher = WorkPoolLauncher({name: partial(platforms.__getitem__, name) for name in platforms}, lambda: platforms)
    launcher.look_at(["Task key"])
    platforms["kubernetes"].started["Job key"] = Sighting("seen", "key", "Job key")
    alive = launcher.find_alive("seen")
    assert alive is not None
    assert alive.text == "Task key"
