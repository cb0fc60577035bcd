"""What this agent asks ECS for, beside what the real ECSWorker of prefect-aws 0.7.12 asks for the same flow runs."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from chalicelib.builders.ecs_defaults import PoolDefaults
from chalicelib.builders.ecs_launch import EcsLaunch
from chalicelib.builders.job_configuration import render_job_configuration
from chalicelib.builders.work_pool_container import WorkPoolContainer
from chalicelib.builders.work_pool_definition import build_pool_definition
from chalicelib.builders.work_pool_task import (
    Base,
    build_pool_launch,
    check_cluster,
    existing_definition,
    needed_vpc,
    read_configuration,
)
from chalicelib.errors import AgentError, UnsupportedRun
from chalicelib.flow_runs import Flow, FlowRun, WorkPoolJob
from chalicelib.launchers.ecs_shapes import shape_problems
from tests.oracle.effective_task import effective_task
from tests.oracle.generated import generated
from tests.oracle.prefect3_environment import run_with_prefect3
from tests.oracle.work_pool_task_cases import (
    NORMALISED,
    REFUSED_HERE,
    REFUSED_THERE,
    SUBNETS,
    UNLIKE,
    Case,
    Json,
    tables,
)
from tests.oracle.work_pool_task_generated_cases import cases

pytestmark = pytest.mark.oracle

GENERATED = 150
API_URL = "http://prefect.example.org/api"
OF_THE_WORKER = {"PREFECT_HOME", "PREFECT_SERVER_EPHEMERAL_ENABLED"}
"""What the worker of the test happens to have set."""

IMAGE = "prefecthq/prefect:3.8.8-python3.11"
CLUSTERS = frozenset({"listed"})


def ask_prefect3(cases: Sequence[Case]) -> list[Json]:
    """The real worker's answers, all from one process."""
    lines = [
        json.dumps(
            {
                **case.documents(),
                "settings": {"api_url": API_URL, **case.settings},
                "described": case.described,
                "subnets": SUBNETS,
            }
        )
        for case in cases
    ]
    one_try = {
        f"PREFECT_INTEGRATIONS_AWS_ECS_WORKER_{name}_MAX_ATTEMPTS": "1"
        for name in ("CREATE_TASK_RUN", "REGISTER_TASK_DEFINITION")
    }
    answers = run_with_prefect3("launch_with_prefect3.py", "\n".join(lines), one_try)
    return [json.loads(line) for line in answers.splitlines()]


def ask_ours(case: Case) -> Json:
    """What this agent would register and run, checked by botocore as its client would, or why it refuses."""
    try:
        launch = _build(case)
    except AgentError as error:
        return {"refused": str(error)}
    definition = None if launch.definition is None else dict(launch.definition)
    if definition is not None:
        _check("RegisterTaskDefinition", definition)
    _check("RunTask", {"taskDefinition": "x", **launch.run_task})
    return {"definition": definition, "run_task": launch.run_task}


def _build(case: Case) -> EcsLaunch:
    run = _flow_run(case)
    container = WorkPoolContainer(api_url=API_URL, image=IMAGE, agent_name="oracle", **case.settings)
    defaults = PoolDefaults(container=container, allowed_clusters=CLUSTERS, agent_name="oracle")
    configuration = read_configuration(render_job_configuration(run))
    check_cluster(run, configuration, defaults)
    if arn := existing_definition(configuration):
        base = Base(case.described or {}, arn)
    else:
        definition = build_pool_definition(run, configuration, defaults, "us-east-1", shape_problems)
        base = Base(definition)
    vpc_id = needed_vpc(configuration, base.definition, defaults)
    subnets = [] if vpc_id is None else SUBNETS.get(vpc_id or "vpc-default", [])
    if vpc_id is not None and not subnets:
        raise UnsupportedRun("there is no such VPC")
    return build_pool_launch(run, configuration, base, subnets, defaults, shape_problems)


def _flow_run(case: Case) -> FlowRun:
    documents = case.documents()
    return FlowRun(
        id=documents["flow_run"]["id"],
        name=documents["flow_run"]["name"],
        version=1,
        start_time=datetime(2026, 1, 1, tzinfo=UTC),
        flow=Flow(**documents["flow"]),
        job=WorkPoolJob(documents["pool"], documents["flow_run"], documents["deployment"] or {}),
    )


@functools.cache
def _ecs_model() -> Any:
    return botocore.session.get_session().get_service_model("ecs")


def _check(operation: str, request: Json) -> None:
    report = ParamValidator().validate(request, _ecs_model().operation_model(operation).input_shape)
    assert not report.has_errors(), report.generate_report()


def compared(case: Case, answer: Json) -> Json:
    """What ECS would make of an answer, without what `NORMALISED` lists."""
    if "refused" in answer:
        return {"refused": True}
    request = deepcopy(answer["run_task"])
    request.pop("taskDefinition", None)
    request.setdefault("cluster", "default")
    network = request.get("networkConfiguration", {}).get("awsvpcConfiguration", {})
    if not network.get("securityGroups", True):
        del network["securityGroups"]
    request.setdefault("overrides", {}).setdefault("containerOverrides", [])
    task = effective_task(answer["definition"] or case.described or {}, request)
    task["tags"].pop("prefect.io/version", None)
    for container in task["containers"].values():
        container["environment"] = {
            name: value for name, value in container["environment"].items() if name not in OF_THE_WORKER
        }
    return task


def _differences(case: Case, theirs: Json, ours: Json) -> list[str]:
    left, right = compared(case, theirs), compared(case, ours)
    if left == right:
        return []
    if "refused" in theirs or "refused" in ours:
        return [f"  prefect: {theirs.get('refused', 'starts it')}", f"  ours:    {ours.get('refused', 'starts it')}"]
    return [
        f"  {part}:\n    prefect: {left[part]}\n    ours:    {right[part]}"
        for part in left
        if left[part] != right[part]
    ]


def assert_alike(cases: Sequence[Case]) -> None:
    """That both want the same in every case; tells all cases in which they do not."""
    found = []
    for case, theirs in zip(cases, ask_prefect3(cases), strict=True):
        if differences := _differences(case, theirs, ask_ours(case)):
            found.append(f"{case}\n" + "\n".join(differences))
    assert not found, "\n\n".join(found)


def test_the_table_of_work_pools_is_launched_as_the_official_worker_launches_it() -> None:
    alike, _, _ = tables()
    launched = [case for case in alike if "refused" not in ask_ours(case)]
    assert 40 < len(launched) < len(alike)
    assert_alike(alike)


def test_generated_work_pools_are_launched_as_the_official_worker_launches_them() -> None:
    drawn = generated(cases(), GENERATED)
    launched = [case for case in drawn if "refused" not in ask_ours(case)]
    assert GENERATED * 0.4 < len(launched) < len(drawn), "too one-sided to prove much"
    assert_alike(drawn)


def test_where_one_refuses_what_the_other_starts_the_difference_is_listed_and_real() -> None:
    _, refused, _ = tables()
    assert {case.difference for case in refused} == REFUSED_HERE.keys() | REFUSED_THERE.keys()
    for case, theirs in zip(refused, ask_prefect3(refused), strict=True):
        refusing, starting = (theirs, ask_ours(case)) if case.difference in REFUSED_THERE else (ask_ours(case), theirs)
        assert "refused" in refusing, case
        assert "refused" not in starting, (case, starting)


def test_where_both_start_something_else_the_difference_is_listed_and_real() -> None:
    _, _, unlike = tables()
    assert {case.difference for case in unlike} == UNLIKE.keys()
    for case, theirs in zip(unlike, ask_prefect3(unlike), strict=True):
        ours = ask_ours(case)
        assert "refused" not in {*theirs, *ours}, (case, theirs, ours)
        assert compared(case, theirs) != compared(case, ours), case


def test_what_the_comparison_does_not_look_at_is_different() -> None:
    case = Case("nothing is asked for")
    (theirs,), ours = ask_prefect3([case]), ask_ours(case)
    families = {"family": (theirs["definition"]["family"], ours["definition"]["family"])}
    assert families["family"][1].startswith(families["family"][0] + "-")
    tags = [{tag["key"]: tag["value"] for tag in answer["run_task"]["tags"]} for answer in (theirs, ours)]
    requests = [answer["run_task"] for answer in (theirs, ours)]
    networks = [request["networkConfiguration"]["awsvpcConfiguration"] for request in requests]
    variables = [request["overrides"]["containerOverrides"][0]["environment"] for request in requests]
    seen = {
        **families,
        "settings": tuple(OF_THE_WORKER & {entry["name"] for entry in each} for each in variables),
        **{name: tuple(request.get(name) for request in requests) for name in ("startedBy", "count", "cluster")},
        **{name: tuple(each.get(name) for each in tags) for name in ("prefect-agent:name", "prefect.io/version")},
        "securityGroups": tuple(network.get("securityGroups") for network in networks),
    }
    assert seen.keys() == NORMALISED.keys()
    assert [name for name, (there, here) in seen.items() if there == here] == []
