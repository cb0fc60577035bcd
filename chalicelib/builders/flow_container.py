"""What runs inside a Prefect 1 flow-run container, whatever the platform: its image, command and environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from chalicelib.builders.run_configs import kind_of
from chalicelib.errors import UnsupportedRun
from chalicelib.flow_runs import Document, Flow, FlowRun

FLOW_CONTAINER = "flow"
"""The container that runs the flow; all others are its sidecars."""

IMAGE_VARIABLE = "PREFECT__CONTEXT__IMAGE"
"""Where a flow finds the image that it runs in, which it asks for in what it starts itself."""

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
    env_vars: Mapping[str, str] = field(default_factory=dict, repr=False)
    log_level: str = "INFO"
    send_logs: bool = True
    api_key: str = field(default="", repr=False)
    auth_token: str = field(default="", repr=False)
    secret_reference: str | None = None


def flow_image(flow: Flow, asked: str | None, default: str | None) -> str:
    """The image that can run `flow`: that of its Docker storage, else what the run asks for, else `default`.

    Without any of them it is Prefect's own image of the flow's version, whatever was built locally upon that version
    (after `+`) left out. Raises UnsupportedRun when the Docker storage does not say which image.
    """
    if flow.storage.get("type") == "Docker":
        return _docker_storage_image(flow.storage)
    return asked or default or f"prefecthq/prefect:{(flow.core_version or 'latest').split('+')[0]}"


def _docker_storage_image(storage: Document) -> str:
    parts = {name: storage.get(name) or "" for name in ("registry_url", "image_name", "image_tag")}
    problems = [f"{name} is {kind_of(part)}" for name, part in parts.items() if not isinstance(part, str)]
    problems += [f"{name} is missing" for name in ("image_name", "image_tag") if not parts[name]]
    if problems:
        raise UnsupportedRun(f"the flow's Docker storage names no image ({', '.join(problems)}): register it again")
    return f"{PurePosixPath(parts['registry_url'], parts['image_name'])}:{parts['image_tag']}"


def flow_run_command(core_version: str | None) -> list[str]:
    """The command of the container; flows registered before 0.13.0 know an older name."""
    return ["/bin/sh", "-c", f"prefect execute {'cloud-flow' if _is_older(core_version, 0, 13) else 'flow-run'}"]


def key_variable(core_version: str | None) -> str:
    """The variable in which the Prefect of the container looks for its key."""
    return AUTH_TOKEN if _is_older(core_version, 0, 15) else API_KEY


def _is_older(core_version: str | None, *release: int) -> bool:
    """Whether a flow was registered before `release`, or by nobody knows what; a text without numbers is a new one."""
    numbers = tuple(int(number) for number in re.findall(r"\d{1,9}", core_version or "0"))
    return bool(numbers) and numbers < release


def container_environment(run: FlowRun, settings: ContainerSettings, run_env: Mapping[str, str]) -> dict[str, str]:
    """The variables of the container that runs `run`, as Prefect 1.4.1's agents set them, sorted by name.

    From weak to strong: the log level, the agent's own variables, the run's, and those that a flow run cannot do
    without. A run may turn its logs off, never on. With a secret reference neither key variable is in the answer.
    """
    env = {"PREFECT__LOGGING__LEVEL": settings.log_level, **settings.env_vars, **run_env}
    sends_logs = str(settings.send_logs).lower()
    if not settings.send_logs or SEND_LOGS not in env:
        env[SEND_LOGS] = sends_logs
    # What containers before 0.15.0 read.
    env["PREFECT__LOGGING__LOG_TO_CLOUD"] = sends_logs
    env.update(_required(run, settings))
    return dict(sorted((without_keys(env) if settings.secret_reference else env).items()))


def without_keys(env: Mapping[str, str]) -> dict[str, str]:
    """An environment without credentials, which only the agent gives; ECS refuses a variable named as a secret is."""
    return {name: value for name, value in env.items() if name not in KEY_VARIABLES}


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
        AUTH_TOKEN: settings.api_key or settings.auth_token,
    }
