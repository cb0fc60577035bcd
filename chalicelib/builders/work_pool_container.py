"""What runs inside a Prefect 3 flow-run container, whatever the platform: its environment, labels and command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from chalicelib.errors import UnsupportedRun
from chalicelib.flow_runs import FlowRun, WorkPoolJob

API_KEY = "PREFECT_API_KEY"
AUTH_STRING = "PREFECT_API_AUTH_STRING"
KEY_VARIABLES = (API_KEY, AUTH_STRING)
"""Where a container finds its credentials: Prefect Cloud's key, or what a server of one's own is signed in to with."""

RUN_LABEL = "prefect.io/flow-run-id"
"""The label or tag by which whatever watches the platform knows whose flow run something is."""


@dataclass(frozen=True)
class WorkPoolContainer:
    """What every flow-run container of this agent is told, below what its work pool says.

    `api_key` and `auth_string` are plain, "" when there is none. `secret_reference` is the ARN of a Secrets Manager
    secret or SSM parameter that the platform resolves into `secret_variable`; while it is set no credential of the
    agent's is in the environment. `env_vars` are the agent's own additions, weaker than all else. `image` is for jobs
    that name none. `allow_plain_api_key` lets the key go in plain to a task whose own definition does not show it as a
    secret.
    """

    api_url: str
    api_key: str = field(default="", repr=False)
    auth_string: str = field(default="", repr=False)
    secret_reference: str | None = None
    secret_variable: str = API_KEY
    env_vars: Mapping[str, str] = field(default_factory=dict, repr=False)
    agent_name: str = "agent"
    image: str = "prefecthq/prefect:3-latest"
    allow_plain_api_key: bool = False


def container_environment(
    run: FlowRun, settings: WorkPoolContainer, configured_env: Mapping[str, object]
) -> dict[str, str]:
    """The variables of the container that runs `run`, as Prefect 3's workers set them, sorted by name.

    What the job configuration has wins over all else; a null there unsets a variable, whoever sets it. Raises
    UnsupportedRun.
    """
    job = _job_of(run)
    given = {
        "PREFECT_API_URL": settings.api_url,
        API_KEY: "" if settings.secret_reference else settings.api_key,
        AUTH_STRING: "" if settings.secret_reference else settings.auth_string,
        "PREFECT__FLOW_RUN_ID": run.id,
        "PREFECT__WORKER_NAME": settings.agent_name,
        "PREFECT__FLOW_ID": run.flow.id,
        "PREFECT__FLOW_NAME": run.flow.name,
        "PREFECT__DEPLOYMENT_ID": job.flow_run.get("deployment_id") or job.deployment.get("id"),
        "PREFECT__DEPLOYMENT_NAME": job.deployment.get("name"),
    }
    env = {**settings.env_vars, **{name: value for name, value in given.items() if value}, **configured_env}
    if any("\x00" in f"{name}{value}" for name, value in env.items()):
        raise UnsupportedRun("a variable has a NUL character, which no process can be given: take it out")
    return {name: str(value) for name, value in sorted(env.items()) if value is not None}


def job_labels(run: FlowRun, agent_name: str) -> dict[str, str]:
    """What Prefect 3's workers label a job with, as far as it is known; not yet cut to what a platform takes."""
    job = _job_of(run)
    labels = {
        RUN_LABEL: run.id,
        "prefect.io/flow-run-name": run.name,
        "prefect.io/work-pool-name": job.pool.get("name"),
        "prefect.io/work-pool-id": job.pool.get("id"),
        "prefect.io/worker-name": agent_name,
        "prefect.io/flow-id": run.flow.id,
        "prefect.io/flow-name": run.flow.name,
        "prefect.io/deployment-id": job.deployment.get("id"),
        "prefect.io/deployment-name": job.deployment.get("name"),
    }
    if updated := job.deployment.get("updated"):
        labels["prefect.io/deployment-updated"] = datetime.fromisoformat(str(updated)).astimezone(UTC).isoformat()
    return {name: str(value) for name, value in labels.items() if value}


def split_command(text: str) -> list[str]:
    """A command as a shell would split it. Raises UnsupportedRun when its quotes do not match."""
    try:
        return shlex.split(text)
    except ValueError:
        # What was filled into it may be secret.
        raise UnsupportedRun("the command cannot be split: check the quotes in it, also in what is filled in") from None


def _job_of(run: FlowRun) -> WorkPoolJob:
    return run.job or WorkPoolJob({}, {})
