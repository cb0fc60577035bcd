"""What a tick asks for and imports, counted: numbers that a busy machine cannot change."""

from __future__ import annotations

import pytest

from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import Prefect1Server
from tests.idle_path import ON_MACHINES, SDKS, foreign, modules_of_idle_ticks, within
from tests.integration.lambdas import Lambdas
from tests.integration.stage import ECS_RUN

REQUESTS_A_RUN, CALLS_A_RUN, TICKS = 0.2, 1.02, 60
OWN_MODULES, FOREIGN_MODULES = 58, 132
STAGES = {
    "ecs": {"AGENT_PLATFORM": "ecs"},
    "kubernetes": {"AGENT_PLATFORM": "kubernetes", "AGENT_EKS_CLUSTER": "main"},
}
OTHER = {"ecs": "kubernetes", "kubernetes": "ecs"}


@pytest.fixture
def unpaced(lambdas: Lambdas, monkeypatch: pytest.MonkeyPatch) -> Lambdas:
    """Functions that launch as fast as they can."""
    monkeypatch.setenv("AGENT_LAUNCHES_PER_SECOND", "0")
    return lambdas


@pytest.mark.parametrize("runs", [100, 1_000])
def test_a_backlog_costs_as_few_calls_a_run_however_long_it_is(
    unpaced: Lambdas, prefect: Prefect1Server, ecs: EcsServer, runs: int
) -> None:
    flow = prefect.add_flow()
    for _ in range(runs):
        prefect.add_flow_run(flow, labels=["dev"], run_config=ECS_RUN)
    launched = [0]
    while sum(launched) < runs and len(launched) < TICKS:
        launched.append(unpaced.wake("{}")["launched"])
    assert sum(launched) == ecs.count("RunTask") == runs
    assert len(prefect.requests) <= REQUESTS_A_RUN * runs
    assert len(ecs.calls) <= CALLS_A_RUN * runs


@pytest.mark.parametrize("platform", STAGES)
def test_a_woken_tick_with_nothing_due_imports_no_sdk_and_nothing_of_other_platforms_and_generations(
    prefect: Prefect1Server, platform: str
) -> None:
    modules = modules_of_idle_ticks({"PREFECT__CLOUD__API": prefect.url, **STAGES[platform]})
    assert f"chalicelib.launchers.{platform}" in modules
    assert within(modules, *SDKS) == []
    assert within(modules, *ON_MACHINES, f"chalicelib.launchers.{OTHER[platform]}") == []
    assert [name for name in modules if name.startswith("chalicelib.prefect_api.prefect3")] == []


@pytest.mark.parametrize("platform", STAGES)
def test_a_woken_tick_with_nothing_due_imports_no_more_modules_than_it_did(
    prefect: Prefect1Server, platform: str
) -> None:
    modules = modules_of_idle_ticks({"PREFECT__CLOUD__API": prefect.url, **STAGES[platform]})
    assert 40 < len(within(modules, "chalicelib")) <= OWN_MODULES
    assert 40 < len(foreign(modules)) <= FOREIGN_MODULES
