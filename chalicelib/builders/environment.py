"""The environment variables that a Prefect 1 flow-run container needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chalicelib.flow_runs import FlowRun

API_KEY = "PREFECT__CLOUD__API_KEY"
AUTH_TOKEN = "PREFECT__CLOUD__AUTH_TOKEN"  # noqa: S105 - a name, not a token
KEY_VARIABLES = (API_KEY, AUTH_TOKEN)
"""Where a container finds its credentials: the first since Prefect 0.15, the second before 1.0."""

SEND_LOGS = "PREFECT__CLOUD__SEND_FLOW_RUN_LOGS"


@dataclass(frozen=True)
class ContainerSettings:
    """What every flow-run container of this agent is told.

    `backend` is `server` or `cloud`. `env_vars` are the agent's own additions, which a run's win over. `api_key` and
    `auth_token` (the older RUNNER token) are plain, "" when there is none. `secret_reference` is the ARN of a Secrets
    Manager secret or SSM parameter that the platform resolves; while it is set no credential is in the environment.
    """

    api_url: str
    backend: str = "server"
    labels: tuple[str, ...] = ()
    env_vars: Mapping[str, str] = field(default_factory=dict)
    log_level: str = "INFO"
    send_logs: bool = True
    api_key: str = field(default="", repr=False)
    auth_token: str = field(default="", repr=False)
    secret_reference: str | None = None


def container_environment(
    run: FlowRun, settings: ContainerSettings, run_env: Mapping[str, str] | None
) -> dict[str, str]:
    """The variables of the container that runs `run`, as Prefect 1.4.1's agents set them, sorted by name.

    From weak to strong: the log level, the agent's own variables, the run's, and those that a flow run cannot do
    without. A run may turn its logs off, never on. With a secret reference neither key variable is in the answer.
    """
    env = {"PREFECT__LOGGING__LEVEL": settings.log_level, **settings.env_vars, **(run_env or {})}
    if not settings.send_logs or SEND_LOGS not in env:
        env[SEND_LOGS] = _flag(settings.send_logs)
    env.update(_required(run, settings))
    if settings.secret_reference:
        for name in KEY_VARIABLES:
            env.pop(name, None)
    return dict(sorted(env.items()))


def _required(run: FlowRun, settings: ContainerSettings) -> dict[str, str]:
    authenticates_by_key = bool(settings.api_key or settings.secret_reference)
    return {
        "PREFECT__CLOUD__USE_LOCAL_SECRETS": "false",
        "PREFECT__ENGINE__FLOW_RUNNER__DEFAULT_CLASS": "prefect.engine.cloud.CloudFlowRunner",
        "PREFECT__BACKEND": settings.backend,
        "PREFECT__CLOUD__API": settings.api_url,
        "PREFECT__CONTEXT__FLOW_RUN_ID": run.id,
        "PREFECT__CONTEXT__FLOW_ID": run.flow.id,
        API_KEY: settings.api_key,
        # A RUNNER token belongs to one tenant; naming the tenant beside it makes old clients ask for more rights.
        "PREFECT__CLOUD__TENANT_ID": run.tenant_id if authenticates_by_key else "",
        "PREFECT__CLOUD__AGENT__LABELS": str(list(settings.labels)),
        # What containers before 0.15.0 and before 1.0.0 read.
        "PREFECT__LOGGING__LOG_TO_CLOUD": _flag(settings.send_logs),
        AUTH_TOKEN: settings.api_key or settings.auth_token,
    }


def _flag(value: bool) -> str:
    return str(value).lower()
