"""Flow runs of an ECS work pool whose template is much like the default one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from chalicelib.builders.work_pool_container import WorkPoolContainer
from chalicelib.flow_runs import Flow, FlowRun, WorkPoolJob

RUN_ID = "00000000-0000-4000-8000-000000000002"
CONTAINER = WorkPoolContainer(api_url="http://prefect/api", image="flows:3")
_PLAIN = (
    *("cluster", "vpc_id", "container_name", "network_configuration", "execution_role_arn", "env", "labels", "command"),
    *("configure_cloudwatch_logs", "cloudwatch_logs_options", "cloudwatch_logs_prefix"),
    *("prefect_api_key_secret_arn", "prefect_api_auth_string_secret_arn"),
)
JOB_CONFIGURATION: dict[str, Any] = {
    **{name: f"{{{{ {name} }}}}" for name in _PLAIN},
    "task_definition": {
        "containerDefinitions": [{"image": "{{ image }}", "name": "{{ container_name }}"}],
        "cpu": "{{ cpu }}",
        "memory": "{{ memory }}",
        "family": "{{ family }}",
        "executionRoleArn": "{{ execution_role_arn }}",
    },
    "task_run_request": {
        "launchType": "{{ launch_type }}",
        "cluster": "{{ cluster }}",
        "overrides": {
            "containerOverrides": [
                {
                    "name": "{{ container_name }}",
                    "command": "{{ command }}",
                    "environment": "{{ env }}",
                    "cpu": "{{ cpu }}",
                }
            ],
            "taskRoleArn": "{{ task_role_arn }}",
        },
        "tags": "{{ labels }}",
        "taskDefinition": "{{ task_definition_arn }}",
        "capacityProviderStrategy": "{{ capacity_provider_strategy }}",
    },
}


def pool_run(
    variables: dict[str, Any] | None = None,
    own_variables: dict[str, Any] | None = None,
    properties: dict[str, Any] | None = None,
    configuration: dict[str, Any] | None = None,
    run_id: str = RUN_ID,
) -> FlowRun:
    """A run with job variables of its deployment and its own, of a pool with these changes to its template."""
    template = {
        "job_configuration": {**JOB_CONFIGURATION, **(configuration or {})},
        "variables": {"properties": {"launch_type": {"default": "FARGATE"}, **(properties or {})}},
    }
    deployment = {
        "id": "d",
        "name": "nightly",
        "updated": "2026-01-02T03:04:05.678900Z",
        "job_variables": variables or {},
    }
    flow_run = {"id": run_id, "name": "wise-owl", "deployment_id": "d", "job_variables": own_variables or {}}
    pool = {"id": "p", "name": "pool", "type": "ecs", "base_job_template": template}
    return FlowRun(
        id=run_id,
        name="wise-owl",
        version=1,
        start_time=datetime(2026, 1, 1, tzinfo=UTC),
        flow=Flow(id="f", name="flow"),
        job=WorkPoolJob(pool, flow_run, deployment),
    )
