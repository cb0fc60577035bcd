"""What became of the flow runs, and whether it is what should have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from demo.parts import API_KEY, EXECUTION_ROLE, Parts
from demo.scene import Scheduled


@dataclass(frozen=True)
class Row:
    """One flow run afterwards: its state, its tasks' ARNs, the message of its state (of a retry: of its task run)."""

    run: Scheduled
    state: str
    task_arns: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Health:
    """What the two health routes answered."""

    status_code: int
    answer: dict[str, Any]
    details: dict[str, Any]


def look_at(parts: Parts, runs: Sequence[Scheduled]) -> list[Row]:
    """A row for each run, in their order."""
    return [_look_at(parts, run) for run in runs]


def _look_at(parts: Parts, run: Scheduled) -> Row:
    row = parts.prefect.flow_run(run.run_id)
    speaks = parts.prefect.task_run(run.task_run_id) if run.task_run_id else row
    wanted = f"prefect/{run.run_id}"
    arns = tuple(task["taskArn"] for task in parts.ecs.tasks() if task["startedBy"] == wanted)
    return Row(run, row["state"], arns, speaks["state_message"] or "")


def problems_of_rows(rows: Sequence[Row]) -> list[str]:
    """One line for each thing that is not as the scene says."""
    return [f"{row.run.kind.name}: {problem}" for row in rows for problem in _problems(row)]


def _problems(row: Row) -> list[str]:
    kind = row.run.kind
    says = kind.says.format(run_id=row.run.run_id)
    problems = []
    if row.state != kind.state:
        problems.append(f"it is {row.state}, and should be {kind.state}")
    if len(row.task_arns) != kind.has_task:
        problems.append(f"it has {len(row.task_arns)} tasks, and should have {int(kind.has_task)}")
    if says not in row.message:
        problems.append(f"its message does not say {says!r}")
    return problems


def problems_of_parts(parts: Parts, health: Health, lambda_log: str) -> list[str]:
    """What is wrong beside the flow runs: an API key in sight, a definition registered twice, ill health."""
    problems = [f"the API key is visible in {where}" for where in places_of_key(parts, lambda_log)]
    if not _keys_are_references(parts):
        problems.append("a task gets its API key from no secret")
    families = [definition["family"] for definition in parts.ecs.definitions()]
    if len(families) != len(set(families)):
        problems.append("a task definition was registered twice")
    if (health.status_code, health.answer) != (200, {"status": "ok"}):
        problems.append(f"health answered {health.status_code}: {health.details.get('reason')}")
    return problems


def places_of_key(parts: Parts, lambda_log: str) -> list[str]:
    """Where somebody could read the API key."""
    runs = {task["startedBy"].removeprefix("prefect/") for task in parts.ecs.tasks()}
    texts = {
        "a task": _text(parts.ecs.tasks()),
        "a task definition": _text(parts.ecs.definitions()),
        "a call of ECS": _text([call.parameters for call in parts.ecs.calls]),
        "a flow run": _text([(parts.prefect.flow_run(run_id), parts.prefect.logs(run_id)) for run_id in runs]),
        "the Lambda's log": lambda_log,
    }
    return [where for where, text in texts.items() if API_KEY in text]


def _keys_are_references(parts: Parts) -> bool:
    reference = parts.environment["PREFECT__CLOUD__API_KEY"]
    definitions = parts.ecs.definitions()
    return all(reference in _text(each) and each["executionRoleArn"] == EXECUTION_ROLE for each in definitions)


def _text(document: Any) -> str:
    return json.dumps(document, default=str)
