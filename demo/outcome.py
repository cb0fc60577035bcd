"""What became of the flow runs, and whether it is what should have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from demo.parts import API_KEY, Parts
from demo.scene import Scheduled
from demo.stages import EXECUTION_ROLE, JOB_SECRET, JOB_SECRET_KEY


@dataclass(frozen=True)
class Launch:
    """What was started for a flow run, `Job <name>` or a task's ARN, and whether it has stopped since."""

    name: str
    has_stopped: bool = False


@dataclass(frozen=True)
class Row:
    """One flow run afterwards: its state, what was started for it, the message of its state (a retry's: of that)."""

    run: Scheduled
    state: str
    launches: tuple[Launch, ...]
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
    return Row(run, row["state"], _launches_of(parts, run.run_id), speaks["state_message"] or "")


def _launches_of(parts: Parts, run_id: str) -> tuple[Launch, ...]:
    tasks = [Launch(task["taskArn"], task["lastStatus"] == "STOPPED") for task in parts.tasks_of(run_id)]
    return (*tasks, *(Launch(f"Job {job['metadata']['name']}") for job in parts.jobs_of(run_id)))


def problems_of_rows(rows: Sequence[Row]) -> list[str]:
    """One line for each thing that is not as the scene says."""
    return [f"{row.run.kind.name}: {problem}" for row in rows for problem in _problems(row)]


def _problems(row: Row) -> list[str]:
    kind = row.run.kind
    says = kind.says.format(run_id=row.run.run_id)
    problems = []
    if row.state != kind.state:
        problems.append(f"it is {row.state}, and should be {kind.state}")
    if len(row.launches) != kind.has_task:
        problems.append(f"it has {len(row.launches)} tasks, and should have {int(kind.has_task)}")
    if any(launch.has_stopped != kind.must_stop for launch in row.launches):
        problems.append(f"its task {'runs on' if kind.must_stop else 'has stopped'}, and should not")
    if says not in row.message:
        problems.append(f"its message does not say {says!r}")
    return problems


def problems_of_parts(parts: Parts, runs: Sequence[Scheduled], health: Health, lambda_log: str) -> list[str]:
    """What is wrong beside the flow runs: an API key in sight, a definition registered twice, ill health."""
    problems = [f"the API key is visible in {where}" for where in places_of_key(parts, runs, lambda_log)]
    if not _keys_are_references(parts):
        problems.append("a task or Job gets its API key from no secret")
    families = [definition["family"] for definition in parts.ecs.definitions()]
    if len(families) != len(set(families)):
        problems.append("a task definition was registered twice")
    if (health.status_code, health.answer) != (200, {"status": "ok"}):
        problems.append(f"health answered {health.status_code}: {health.details.get('reason')}")
    return problems


def places_of_key(parts: Parts, runs: Sequence[Scheduled], lambda_log: str) -> list[str]:
    """Where somebody could read the API key."""
    seen_in_prefect = [(parts.prefect.flow_run(run.run_id), parts.prefect.logs(run.run_id)) for run in runs]
    texts = {
        "a task": _text(parts.ecs.tasks()),
        "a task definition": _text(parts.ecs.definitions()),
        "a call of ECS": _text([call.parameters for call in parts.ecs.calls]),
        "a Job": _text([parts.kubernetes.jobs(), parts.kubernetes.pods()]),
        "a call of Kubernetes": _text([call.body for call in parts.kubernetes.calls]),
        "a flow run": _text(seen_in_prefect),
        "the Lambda's log": lambda_log,
    }
    return [where for where, text in texts.items() if API_KEY in text]


def _keys_are_references(parts: Parts) -> bool:
    of_jobs = _text({"secretKeyRef": {"name": JOB_SECRET, "key": JOB_SECRET_KEY}})[1:-1]
    return all(of_jobs in _text(job) for job in parts.kubernetes.jobs()) and all(
        parts.secret_arn in _text(each) and each["executionRoleArn"] == EXECUTION_ROLE
        for each in parts.ecs.definitions()
    )


def _text(document: Any) -> str:
    return json.dumps(document, default=str)
