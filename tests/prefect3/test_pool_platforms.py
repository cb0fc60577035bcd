"""One agent for work pools of several types: each run goes to its platform, and each is looked after there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chalicelib.launchers.kubernetes import KubernetesLauncher
from tests.doubles.kubernetes import KubernetesServer
from tests.doubles.kubernetes.kubeconfig import write_kubeconfig
from tests.oracle.prefect3_environment import default_base_job_template
from tests.prefect3.pool_world import RUN_TAG, PoolWorld, assert_launched_once, pid_of
from tests.prefect3.server import Prefect3Server

pytestmark = pytest.mark.server

NAMESPACE = "flows"


class TwoPlatforms(PoolWorld):
    """A pool on ECS and one on Kubernetes, of which one agent serves both."""

    def __init__(self, server: Prefect3Server, environment: pytest.MonkeyPatch, directory: Path) -> None:
        super().__init__(server, environment, AGENT_KUBECONFIG=str(directory / "config"))
        self.settings["AGENT_KUBERNETES_NAMESPACE"] = NAMESPACE
        self.kubernetes = KubernetesServer(clock=self.clock, namespaces=(NAMESPACE,))
        write_kubeconfig(self.kubernetes, directory / "config")
        self.add_pool()
        template = default_base_job_template("kubernetes")
        template["variables"]["properties"]["namespace"]["default"] = NAMESPACE
        self.kubernetes_pool = server.create_pool("kubernetes", template)
        self.kubernetes_deployment = server.create_deployment(self.kubernetes_pool)

    def close(self) -> None:
        """End both platforms and the agents' connections to them."""
        for launcher in self.launchers:
            made = launcher._made.get("kubernetes")
            if isinstance(made, KubernetesLauncher):
                made.api.close()
        self.kubernetes.close()
        super().close()

    def add_kubernetes_run(self) -> str:
        """A due flow run in the pool on Kubernetes."""
        return self.server.create_run(self.kubernetes_deployment)

    def jobs_of(self, run_id: str) -> list[str]:
        """The names of the flow run's Jobs."""
        jobs = self.kubernetes.jobs()
        return [job["metadata"]["name"] for job in jobs if job["metadata"]["labels"][RUN_TAG] == run_id]

    def pod_of(self, run_id: str) -> str:
        """The name of its pod."""
        (pod,) = [pod for pod in self.kubernetes.pods() if pod["metadata"]["labels"][RUN_TAG] == run_id]
        return str(pod["metadata"]["name"])


@pytest.fixture
def world(server: Prefect3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TwoPlatforms]:
    world = TwoPlatforms(server, monkeypatch, tmp_path)
    world.pools.append(world.kubernetes_pool)
    yield world
    world.close()


def add_both(world: TwoPlatforms) -> tuple[str, str]:
    on_ecs = world.server.create_run(world.deployments[world.pools[0]])
    return on_ecs, world.add_kubernetes_run()


def test_each_run_is_launched_on_the_platform_of_its_pool(world: TwoPlatforms) -> None:
    on_ecs, on_kubernetes = add_both(world)
    report = world.tick()
    assert report is not None
    assert report.errors == []
    assert_launched_once(world, on_ecs)
    (job,) = world.jobs_of(on_kubernetes)
    assert world.server.run(on_kubernetes)["infrastructure_pid"] == f"{NAMESPACE}:{job}"
    assert (world.jobs_of(on_ecs), world.tasks_of(on_kubernetes)) == ([], [])


def test_what_fails_on_either_platform_crashes_its_run(world: TwoPlatforms) -> None:
    on_ecs, on_kubernetes = add_both(world)
    world.tick()
    world.ecs.stop(world.living_tasks(on_ecs)[0], exit_code=3)
    world.kubernetes.finish_pod(world.pod_of(on_kubernetes), exit_code=4)
    world.tick_again(100)
    messages = [world.server.state(run_id)["message"] for run_id in (on_ecs, on_kubernetes)]
    assert {world.server.state(run_id)["type"] for run_id in (on_ecs, on_kubernetes)} == {"CRASHED"}
    assert ("exit code 3" in messages[0], "exit code 4" in messages[1]) == (True, True)


def test_what_is_cancelled_on_either_platform_is_stopped_there_and_confirmed(world: TwoPlatforms) -> None:
    run_ids = add_both(world)
    world.tick()
    arn = world.living_tasks(run_ids[0])[0]
    assert world.server.run(run_ids[0])["infrastructure_pid"] == pid_of(arn)
    for run_id in run_ids:
        world.server.set_state(run_id, "CANCELLING")
    for seconds in (10, 60, 60):
        world.tick_again(seconds)
        world.end_what_is_to_stop()
    assert [world.server.state(run_id)["type"] for run_id in run_ids] == ["CANCELLED", "CANCELLED"]
    assert (world.living_tasks(run_ids[0]), world.kubernetes.pods()) == ([], [])


def test_a_platform_that_is_away_holds_up_its_own_runs_alone(world: TwoPlatforms) -> None:
    world.kubernetes.close()
    on_ecs, on_kubernetes = add_both(world)
    world.tick()
    assert_launched_once(world, on_ecs)
    assert world.server.state(on_kubernetes)["type"] in ("SCHEDULED", "PENDING")


def test_a_platform_that_the_settings_do_not_suffice_for_fails_one_run_of_its_own_and_shows_as_a_fault(
    world: TwoPlatforms, tmp_path: Path
) -> None:
    (tmp_path / "config").unlink()
    on_ecs, first = add_both(world)
    also_on_ecs, second = add_both(world)
    report = world.tick()
    assert report is not None
    assert "cannot be served" in str(report.agent_fault)
    for run_id in (on_ecs, also_on_ecs):
        assert_launched_once(world, run_id)
    assert sorted(world.server.state(run_id)["name"] for run_id in (first, second))[0] == "AgentMisconfigured"
    assert {"SCHEDULED", "CRASHED"} == {world.server.state(run_id)["type"] for run_id in (first, second)}
