"""What this agent asks ECS for, beside what the real agent of Prefect 1.4.1 asks for the same flow runs."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from chalicelib.builders.ecs_defaults import EcsDefaults
from chalicelib.builders.ecs_launch import build_ecs_launch, needs_network
from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.builders.run_configs import read_ecs_run
from chalicelib.errors import AgentError
from chalicelib.flow_runs import Flow, FlowRun
from chalicelib.launchers.ecs_shapes import shape_problems
from tests.oracle.ecs_cases import ALIKE, ALLOWED_CLUSTER, DIFFERENT, REFUSED_HERE, REFUSED_THERE, TENANT_ID, Case, Json
from tests.oracle.ecs_generated_cases import cases
from tests.oracle.effective_task import PREFECT_TAGS, effective_task
from tests.oracle.generated import generated

pytestmark = pytest.mark.oracle

ROOT = Path(__file__).parents[2]
GENERATED = 150
DEFAULT_NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-default"], "assignPublicIp": "ENABLED"}}


def python_with_prefect1() -> str:
    return os.environ.get("PREFECT1_PYTHON") or str(ROOT / ".venv-prefect1" / "bin" / "python")


def ask_prefect1(cases: Sequence[Case], home: Path) -> list[Json]:
    """The real agent's answers, all from one process that sees nobody's own configuration."""
    lines = [
        json.dumps(
            {
                "settings": {"name": "oracle", **case.agent},
                "config": case.config(),
                "flow_run": case.flow_run(),
                "described": case.described,
            }
        )
        for case in cases
    ]
    done = subprocess.run(
        [python_with_prefect1(), str(Path(__file__).parent / "in_prefect1_environment" / "launch_with_prefect1.py")],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=240,
        env={
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


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


def _build(case: Case) -> Any:
    ecs_run = read_ecs_run(_flow_run(case))
    defaults = _defaults(case)
    base = ecs_run.task_definition or defaults.task_definition
    if ecs_run.task_definition_arn:
        base = case.described or {}
    network = DEFAULT_NETWORK if needs_network(ecs_run, defaults) else None
    return build_ecs_launch(_flow_run(case), ecs_run, base, defaults, network, shape_problems)


def _flow_run(case: Case) -> FlowRun:
    document = case.flow_run()
    flow = document.pop("flow")
    return FlowRun(start_time=datetime(2026, 1, 1, tzinfo=UTC), flow=Flow(**flow), tenant_id=TENANT_ID, **document)


def _defaults(case: Case) -> EcsDefaults:
    agent = dict(case.agent)
    container = ContainerSettings(
        api_url=case.config()["cloud.api"],
        backend=case.config()["backend"],
        labels=tuple(agent.pop("labels", ())),
        env_vars=agent.pop("env_vars", {}),
        log_level=case.config()["logging.level"],
        send_logs=not agent.pop("no_cloud_logs", False),
        api_key=case.prefect.get("api_key", ""),
    )
    renamed = {"task_definition_path": "task_definition", "run_task_kwargs_path": "run_task_kwargs"}
    options = {renamed.get(name, name): value for name, value in agent.items()}
    return EcsDefaults(
        container=container, allowed_clusters=frozenset({ALLOWED_CLUSTER}), agent_name="oracle", **options
    )


@functools.cache
def _ecs_model() -> Any:
    return botocore.session.get_session().get_service_model("ecs")


def _check(operation: str, request: Json) -> None:
    report = ParamValidator().validate(request, _ecs_model().operation_model(operation).input_shape)
    assert not report.has_errors(), report.generate_report()


def compared(case: Case, answer: Json) -> Json:
    if "refused" in answer:
        return {"refused": True}
    task = effective_task(answer["definition"] or case.described or {}, answer["run_task"])
    if answer["definition"] is None:
        task["tags"] = {key: value for key, value in task["tags"].items() if key not in PREFECT_TAGS}
    return task


def assert_alike(cases: Sequence[Case], home: Path) -> None:
    """That both agents want the same in every case; tells all cases in which they do not."""
    found = []
    for case, theirs in zip(cases, ask_prefect1(cases, home), strict=True):
        ours = ask_ours(case)
        if compared(case, theirs) != compared(case, ours):
            found.append(f"{case}\n" + "\n".join(_differences(case, theirs, ours)))
    assert not found, "\n\n".join(found)


def _differences(case: Case, theirs: Json, ours: Json) -> list[str]:
    if "refused" in theirs or "refused" in ours:
        return [f"  prefect: {theirs.get('refused', 'starts it')}", f"  ours:    {ours.get('refused', 'starts it')}"]
    left, right = compared(case, theirs), compared(case, ours)
    return [
        f"  {part}:\n    prefect: {left[part]}\n    ours:    {right[part]}"
        for part in left
        if left[part] != right[part]
    ]


def test_the_table_of_run_configs_is_launched_as_prefect_1_4_1_launches_it(tmp_path: Path) -> None:
    assert len(ALIKE) >= 40
    assert_alike(ALIKE, tmp_path)


def test_generated_run_configs_are_launched_as_prefect_1_4_1_launches_them(tmp_path: Path) -> None:
    drawn = generated(cases(), GENERATED)
    launched = [case for case in drawn if "refused" not in ask_ours(case)]
    assert GENERATED * 0.4 < len(launched) < len(drawn), "too one-sided to prove much"
    assert_alike(drawn, tmp_path)


def test_the_listed_differences_are_all_there_are_to_be_seen_and_are_real(tmp_path: Path) -> None:
    assert {case.difference for case in DIFFERENT} == REFUSED_HERE.keys() | REFUSED_THERE.keys()
    for case, theirs in zip(DIFFERENT, ask_prefect1(DIFFERENT, tmp_path), strict=True):
        refusing, starting = (theirs, ask_ours(case)) if case.difference in REFUSED_THERE else (ask_ours(case), theirs)
        assert "refused" in refusing, case
        assert "refused" not in starting, (case, starting)
