"""On Kubernetes too, a process that is cut off at any effect of a tick loses nothing and starts nothing twice.

Each test cuts a scheduled tick at one effect after the other, before a request to Prefect or the cluster is sent and
after it is answered. Two later scheduled ticks run; every run is looked at then, and the cluster at every moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from chalicelib.launchers.kubernetes_stops import START_GRACE_SECONDS, STOPPED_ANNOTATION
from tests.integration.kubernetes_launched import (
    NO_IMAGE,
    assert_failed_once,
    assert_launched_once,
    assert_resubmitted_once,
    launch_and_let_it_go_silent,
)
from tests.integration.kubernetes_world import KubernetesWorld
from tests.integration.world import ROUND_SECONDS, Cut, cut_at_every_effect

Act = Callable[[KubernetesWorld, Cut], object | None]


def cut_everywhere(
    directory: Path, arrange: Callable[[KubernetesWorld], None], act: Act = KubernetesWorld.tick
) -> Iterator[tuple[int, KubernetesWorld]]:
    """Every world that comes of one cut of `act` and two rounds; in none a run ever had two living Jobs or pods."""
    for at, world in cut_at_every_effect(lambda: KubernetesWorld(directory), arrange, act):
        yield at, world
        assert world.kubernetes.twice == set(), f"cut at effect {at}"


def test_fresh_runs_are_launched_once_wherever_the_tick_is_cut(tmp_path: Path) -> None:
    ids: list[str] = []

    def arrange(world: KubernetesWorld) -> None:
        ids[:] = [world.add_run() for _ in range(3)]

    for at, world in cut_everywhere(tmp_path, arrange):
        for run_id in ids:
            assert_launched_once(world, run_id, at)


@pytest.mark.parametrize("is_alive", [True, False])
def test_a_run_that_was_launched_before_has_one_job_wherever_the_tick_is_cut(tmp_path: Path, is_alive: bool) -> None:
    ids: list[str] = []

    def arrange(world: KubernetesWorld) -> None:
        ids[:] = [launch_and_let_it_go_silent(world, is_alive)]

    for at, world in cut_everywhere(tmp_path, arrange):
        row = world.prefect.flow_run(ids[0])
        assert row["state"] == "Submitted", f"cut at effect {at}"
        assert len(world.living_jobs(ids[0])) == 1, f"cut at effect {at}"
        assert len(world.jobs_of(ids[0])) == (1 if is_alive else 2), f"cut at effect {at}"
        # One that is adopted bears the key of its first claim, and its sign that of the present one.
        assert world.has_sign(ids[0], row["serialized_state"]["context"]["key"]), f"cut at effect {at}"


def test_a_retry_is_launched_once_wherever_the_tick_is_cut(tmp_path: Path) -> None:
    ids: list[str] = []

    def arrange(world: KubernetesWorld) -> None:
        run_id = world.launch_and_begin()
        world.kubernetes.finish_pod(world.pod_of(run_id))
        due = (world.clock.now() - timedelta(seconds=5)).isoformat()
        ids[:] = [run_id, world.prefect.add_task_run(run_id, {"type": "Retrying", "start_time": due, "run_count": 1})]

    for at, world in cut_everywhere(tmp_path, arrange):
        run_id, task_run_id = ids
        task_run = world.prefect.task_run(task_run_id)
        assert (world.prefect.flow_run(run_id)["state"], task_run["state"]) == ("Running", "Submitted")
        key = world.key_of_living(run_id)
        assert key == task_run["serialized_state"]["context"]["key"], f"cut at effect {at}"
        assert world.has_sign(run_id, key), f"cut at effect {at}"
        assert len(world.jobs_of(run_id)) == 2, f"cut at effect {at}"


def test_a_refused_run_has_its_reason_wherever_the_tick_is_cut(tmp_path: Path) -> None:
    ids: list[str] = []

    def arrange(world: KubernetesWorld) -> None:
        template = {"spec": {"backofLimit": 1, "template": {"spec": {"containers": [{"name": "flow"}]}}}}
        ids[:] = [world.add_run(type="DockerRun"), world.add_run(job_template=template)]

    for at, world in cut_everywhere(tmp_path, arrange):
        assert_failed_once(world, ids[0], "DockerRun", at=at)
        assert_failed_once(world, ids[1], 'unknown field "spec.backofLimit"', at=at)
        assert world.kubernetes.jobs() == []


def tick_and_find_nothing_alive_of_what_failed(world: KubernetesWorld, cut: Cut) -> object | None:
    """A tick that may be cut, and the moment after it: what Prefect was told of as failed cannot start any more."""
    report = world.tick(cut)
    for job in world.kubernetes.jobs():
        run_id = job["metadata"]["labels"]["prefect.io/flow_run_id"]
        assert world.prefect.flow_run(run_id)["state"] != "Failed" or world.living_jobs(run_id) == []
    return report


def test_what_could_not_start_is_failed_once_with_its_reason_and_never_starts_wherever_that_is_cut(
    tmp_path: Path,
) -> None:
    ids: list[str] = []

    def arrange(world: KubernetesWorld) -> None:
        ids[:] = [world.launch(), world.launch()]
        world.kubernetes.wait_for_image(world.pod_of(ids[0]), message=NO_IMAGE)
        world.clock.turn(START_GRACE_SECONDS + 1)
        world.kubernetes.finish_pod(world.pod_of(ids[1]), exit_code=1)

    for at, world in cut_everywhere(tmp_path, arrange, tick_and_find_nothing_alive_of_what_failed):
        assert_failed_once(world, ids[0], "ImagePullBackOff", NO_IMAGE, at=at)
        assert_failed_once(world, ids[1], "exit code 1", at=at)
        assert [len(world.jobs_of(run_id)) for run_id in ids] == [1, 1], f"cut at effect {at}"
        assert [pod for pod in world.kubernetes.pods() if pod["status"]["phase"] != "Failed"] == []


@pytest.mark.parametrize("begins", [False, True])
def test_what_was_evicted_is_launched_again_once_wherever_that_is_cut(tmp_path: Path, begins: bool) -> None:
    ids: list[str] = []

    def arrange(world: KubernetesWorld) -> None:
        run_id = (world.launch_and_begin if begins else world.launch)("running")
        ids[:] = [run_id, world.prefect.add_task_run(run_id, {"type": "Running" if begins else "Pending"})]
        world.kubernetes.evict_pod(world.pod_of(run_id))
        world.clock.turn(ROUND_SECONDS)

    for at, world in cut_everywhere(tmp_path, arrange):
        assert_resubmitted_once(world, ids[0], at)
        assert world.prefect.task_run(ids[1])["state"] == "Pending", f"cut at effect {at}"


@pytest.mark.parametrize("begins", [False, True])
def test_a_cancelled_run_ends_without_a_job_wherever_the_tick_is_cut(tmp_path: Path, begins: bool) -> None:
    ids: list[str] = []

    def arrange(world: KubernetesWorld) -> None:
        ids[:] = [(world.launch_and_begin if begins else world.launch)()]
        world.prefect.cancel(ids[0])
        world.clock.turn(ROUND_SECONDS)

    for at, world in cut_everywhere(tmp_path, arrange):
        world.tick()
        assert world.prefect.flow_run(ids[0])["state"] == "Cancelled", f"cut at effect {at}"
        (job,) = world.jobs_of(ids[0])
        assert "The flow run was cancelled" in job["metadata"]["annotations"][STOPPED_ANNOTATION]
        assert (world.living_jobs(ids[0]), world.kubernetes.pods()) == ([], []), f"cut at effect {at}"


def test_a_run_that_is_cancelled_where_its_tick_was_cut_ends_without_a_job(tmp_path: Path) -> None:
    ids: list[str] = []

    def arrange(world: KubernetesWorld) -> None:
        ids[:] = [world.add_run()]

    def tick_and_cancel(world: KubernetesWorld, cut: Cut) -> object | None:
        report = world.tick(cut)
        world.prefect.cancel(ids[0])
        return report

    for at, world in cut_everywhere(tmp_path, arrange, tick_and_cancel):
        assert world.prefect.flow_run(ids[0])["state"] == "Cancelled", f"cut at effect {at}"
        assert (world.living_jobs(ids[0]), world.kubernetes.pods()) == ([], []), f"cut at effect {at}"
