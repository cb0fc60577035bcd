"""What this agent makes of a work pool's template, beside what the real Prefect 3 makes of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib.builders.job_configuration import find_references, render_job_configuration
from chalicelib.errors import UnsupportedRun
from chalicelib.flow_runs import Flow, FlowRun, WorkPoolJob
from tests.oracle.job_configuration_cases import (
    ALIKE,
    DIFFERENT,
    FLOW,
    FLOW_RUN,
    OTHER_NAMES,
    REFERENCES,
    REFUSED_HERE,
    REFUSED_THERE,
    Case,
    Json,
    generated_cases,
)
from tests.oracle.prefect3_environment import default_base_job_template, run_with_prefect3

pytestmark = pytest.mark.oracle

GENERATED = 300


def ask_prefect3(cases: Sequence[Case], variables: Mapping[str, str] | None = None) -> list[Json]:
    """What the real Prefect makes of the cases, all from one process."""
    lines = [
        json.dumps(
            {
                "pool": case.pool(),
                "deployment": case.deployment(),
                "flow_run": case.flow_run(),
                "flow": FLOW,
                "references": case.references,
            }
        )
        for case in cases
    ]
    printed = run_with_prefect3("configure_jobs.py", "\n".join(lines), variables)
    answers = [json.loads(line) for line in printed.splitlines()]
    assert len(answers) == len(cases)
    assert "KnownAPI" not in printed, "Prefect asked for what the stand-in for its API does not have"
    return answers


def ask_ours(case: Case) -> Json:
    """What this agent makes of the case, knowing only the references that it asked for, twice."""
    job = WorkPoolJob(copy.deepcopy(case.pool()), case.flow_run(), case.deployment())
    before, known = copy.deepcopy(job), case.references.keys()
    for _ in range(2):
        job = replace(job, references={name: case.references[name] for name in find_references(job) & known})
    run = FlowRun(FLOW_RUN["id"], FLOW_RUN["name"], 1, datetime.now(UTC), Flow(FLOW["id"], FLOW["name"]), job=job)
    try:
        return {"configuration": render_job_configuration(run)}
    except UnsupportedRun as error:
        return {"refused": str(error)}
    finally:
        assert replace(job, references={}) == before, f"{case.title}: the documents were changed"


def assert_alike(cases: Sequence[Case]) -> int:
    """That both make the same of every case; tells all in which they do not. How many were not refused."""
    found, configured = [], 0
    for case, theirs in zip(cases, ask_prefect3(cases), strict=True):
        ours = ask_ours(case)
        configured += "configuration" in theirs
        if ours.get("configuration") != theirs.get("configuration"):
            found.append(f"{case}\n  prefect: {theirs}\n  ours:    {ours}")
    assert not found, "\n\n".join(found)
    return configured


def test_the_table_of_templates_is_filled_in_as_prefect_3_fills_it_in() -> None:
    assert len(ALIKE) >= 120
    assert assert_alike(ALIKE) >= 90


def test_generated_templates_are_filled_in_as_prefect_3_fills_them_in() -> None:
    assert GENERATED * 0.5 < assert_alike(generated_cases(GENERATED)) < GENERATED, "too one-sided to prove much"


SHARED: Json = {
    "name": "{{ ctx.flow.name }}-{{ prefect.variables.region }}",
    "env": {"A": "{{ prefect.blocks.secret.token }}", "N": 1, "U": None},
    "labels": {"team": "{{ prefect.variables.region }}"},
    "command": "python -m {{ prefect.variables.region }} 'a b'",
    "image": "{{ prefect.variables.region }}/img:1",
}
OF_TYPE: dict[str, Json] = {
    "ecs": {
        "cluster": "batch",
        "family": "mine",
        "launch_type": "FARGATE_SPOT",
        "capacity_provider_strategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1}],
        "cpu": 512,
        "memory": 1024,
        "container_name": "flow",
        "task_role_arn": "arn:aws:iam::1:role/{{ prefect.variables.number }}",
        "execution_role_arn": "arn:aws:iam::1:role/b",
        "vpc_id": "vpc-1",
        "network_configuration": {"subnets": ["{{ prefect.variables.region }}"], "assignPublicIp": "DISABLED"},
        "configure_cloudwatch_logs": True,
        "cloudwatch_logs_options": {"awslogs-group": "g"},
        "cloudwatch_logs_prefix": "p",
        "auto_deregister_task_definition": False,
        "prefect_api_key_secret_arn": "{{ prefect.blocks.secret.token }}",
        "task_definition_arn": "arn:aws:ecs:eu-west-1:1:task-definition/a:1",
    },
    "kubernetes": {
        "annotations": {"a/b": "c"},
        "namespace": "jobs",
        "service_account_name": "flows",
        "image_pull_policy": "Always",
        "backoff_limit": 2,
        "finished_job_ttl": 60,
        "cpu_request": "100m",
        "memory_limit": "{{ prefect.variables.number }}Gi",
        "stream_output": False,
    },
    "process": {"working_dir": "/srv/{{ prefect.variables.region }}", "stream_output": False},
}


@pytest.mark.parametrize("pool_type", OF_TYPE)
def test_the_default_templates_are_filled_in_as_prefect_3_fills_them_in(pool_type: str) -> None:
    template = default_base_job_template(pool_type)
    known = template["variables"]["properties"]
    variables = {name: value for name, value in {**SHARED, **OF_TYPE[pool_type]}.items() if name in known}
    assert len(variables) == len(SHARED) + len(OF_TYPE[pool_type]) - (pool_type == "process")
    halves = list(variables.items())[::2], list(variables.items())[1::2]
    sets: list[tuple[Any, Any]] = [({}, {}), (None, None), (variables, {}), ({}, variables), (variables, SHARED)]
    sets += [(dict(halves[0]), dict(halves[1])), ({"env.A": "1", "labels.team": "x"}, {"env": {"B": "2"}})]
    sets += [({name: value}, {}) for name, value in variables.items()]
    cases = [
        Case("defaults", general=general, own=own, pool_type=pool_type, template=template) for general, own in sets
    ]
    assert assert_alike(cases) == len(cases)


def test_the_listed_differences_are_all_there_are_to_be_seen_and_are_real() -> None:
    assert {case.difference for case in DIFFERENT} == {*REFUSED_HERE, *REFUSED_THERE, *OTHER_NAMES}
    for case, theirs in zip(DIFFERENT, ask_prefect3(DIFFERENT), strict=True):
        ours = ask_ours(case)
        assert ("refused" in ours) == (case.difference in REFUSED_HERE), (case, ours)
        assert ("refused" in theirs) == (case.difference in REFUSED_THERE), (case, theirs)
        if case.difference in OTHER_NAMES:
            assert ours["configuration"].pop("name") != theirs["configuration"].pop("name"), case
            assert ours == theirs, case


def test_what_a_value_is_put_into_is_not_searched_again_where_prefect_does_so_by_chance() -> None:
    case = Case("chance", {"x": "{{ a }}{{ b }}"}, {"a": {"default": "{{ b }}"}, "b": {"default": "1"}})
    theirs: set[str] = set()
    for seed in range(20):
        theirs |= {answer["configuration"]["x"] for answer in ask_prefect3([case], {"PYTHONHASHSEED": str(seed)})}
        if len(theirs) > 1:
            break
    assert theirs == {"11", "{{ b }}1"}
    assert ask_ours(case)["configuration"]["x"] == "{{ b }}1"


def test_what_blocks_and_variables_hold_is_in_no_refusal() -> None:
    answers = [ask_ours(case) for case in (*ALIKE, *DIFFERENT, *generated_cases(GENERATED))]
    refusals = [answer["refused"] for answer in answers if "refused" in answer]
    assert len(refusals) > 20
    assert "s3cr3t" in str(REFERENCES)
    assert not [refusal for refusal in refusals if "s3cr3t" in refusal or "by id" in refusal]
