"""Flow runs on several clusters, one of which may be gone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from chalicelib.errors import LaunchError
from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import Prefect1Server
from tests.integration.lambdas import Lambdas
from tests.integration.launched import changes
from tests.integration.stage import Stage, assert_failed


@pytest.fixture
def stage(
    environment: None, monkeypatch: pytest.MonkeyPatch, prefect: Prefect1Server, ecs: EcsServer
) -> Iterator[Stage]:
    monkeypatch.setenv("AGENT_CLUSTERS", "spare")
    with Lambdas() as lambdas:
        yield Stage(lambdas, prefect, ecs)


def test_the_app_stops_a_cancelled_run_in_the_cluster_that_it_was_launched_on(stage: Stage) -> None:
    run_id, arn = stage.launch(cluster="spare")
    stage.prefect.cancel(run_id)
    assert stage.lambdas.tick()["errors"] == []
    assert stage.ecs.task(arn)["desiredStatus"] == "STOPPED"
    stage.ecs.stop(arn)
    assert changes(stage.hear(*stage.stop_events())["stopped"]) == {}
    assert stage.prefect.flow_run(run_id)["state"] == "Cancelled"


def test_a_flow_run_on_a_cluster_that_is_gone_does_not_cost_the_others_their_events(stage: Stage) -> None:
    pairs = [stage.launch(begins=True, cluster=cluster) for cluster in ("flows", "spare", "flows")]
    for _, arn in pairs:
        stage.ecs.stop(arn, exit_code=1)
    stage.ecs.deactivate_cluster("spare")
    events = stage.stop_events()
    with contextlib.suppress(LaunchError):
        # It may ask for the message that it could not deal with again; the others must not wait for that one.
        stage.hear(*events)
    for run_id in (pairs[0][0], pairs[2][0]):
        assert_failed(stage, run_id, "exit code 1")


def test_a_flow_run_on_a_cluster_that_is_gone_does_not_keep_the_sweep_from_the_others(stage: Stage) -> None:
    pairs = [stage.launch(begins=True, cluster=cluster) for cluster in ("flows", "spare")]
    for _, arn in pairs:
        stage.ecs.stop(arn, exit_code=1)
    stage.ecs.deactivate_cluster("spare")
    stage.lambdas.tick()
    assert_failed(stage, pairs[0][0], "exit code 1")
