"""The platforms, built out of the settings: what an agent launches on."""

from __future__ import annotations

import logging
from typing import Any

from chalicelib.builders.ecs_defaults import EcsDefaults, built_in_definition
from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.credentials import Credential
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.ecs import EcsLauncher
from chalicelib.launchers.ecs_shapes import shape_problems
from chalicelib.launchers.pacing import FARGATE_BURST, Pace
from chalicelib.launchers.templates import TemplateReader, read_own_template
from chalicelib.ports import Clock, Launcher
from chalicelib.settings import Settings

LOGGER = logging.getLogger(__name__)

LAUNCHES_PER_SECOND = {"FARGATE": 20.0, "EC2": 40.0}
"""What AWS sustains for RunTask in the larger regions, by launch type: the service quotas of Amazon ECS and Fargate."""

BURST_SECONDS = 5
"""How many seconds' worth of launches may go at once, up to Fargate's burst: with its 20 a second that is all of it."""


def build_launcher(
    settings: Settings, credential: Credential, clients: AwsClients, clock: Clock, reads_local_templates: bool
) -> Launcher:
    """The launcher of the platform that `settings` name. Raises SettingsError with all problems of its templates."""
    templates = TemplateReader(settings.template_paths, clients.s3, reads_local_templates)
    defaults = build_ecs_defaults(settings, credential, clients)
    return EcsLauncher(clients, defaults, templates, build_pace(settings, defaults, clock), clock)


def build_pace(settings: Settings, defaults: EcsDefaults, clock: Clock) -> Pace:
    """How fast this process may launch."""
    per_second = settings.launches_per_second
    if per_second is None:
        per_second = LAUNCHES_PER_SECOND[defaults.effective_launch_type or "FARGATE"]
    return Pace(per_second, clock, min(FARGATE_BURST, round(per_second * BURST_SECONDS)))


def build_ecs_defaults(settings: Settings, credential: Credential, clients: AwsClients) -> EcsDefaults:
    """What the agent itself says about its tasks. Raises SettingsError with all problems of its templates."""
    template, arguments = built_in_definition(), _network_arguments(settings)
    if settings.task_definition_path:
        template = dict(read_own_template(settings.task_definition_path, clients.s3))
    if settings.run_task_kwargs_path:
        arguments = {**arguments, **read_own_template(settings.run_task_kwargs_path, clients.s3)}
    defaults = EcsDefaults(
        container=_container_settings(settings, credential),
        cluster=settings.cluster or arguments.get("cluster") or "default",
        allowed_clusters=frozenset(settings.allowed_clusters),
        launch_type=settings.launch_type,
        task_definition=template,
        run_task_kwargs=arguments,
        task_role_arn=settings.task_role_arn,
        execution_role_arn=settings.execution_role_arn,
        allow_plain_api_key=settings.allow_plain_api_key,
        allow_execute_command=settings.allow_execute_command,
        agent_name=settings.name,
    )
    if settings.task_definition_path or settings.run_task_kwargs_path:
        defaults.validate(shape_problems)  # imports botocore, so only for what somebody wrote
    return defaults


def _network_arguments(settings: Settings) -> dict[str, Any]:
    if not settings.subnets:
        return {}
    configuration: dict[str, Any] = {
        "subnets": sorted(settings.subnets),
        "assignPublicIp": "ENABLED" if settings.assign_public_ip else "DISABLED",
    }
    if settings.security_groups:
        configuration["securityGroups"] = sorted(settings.security_groups)
    return {"networkConfiguration": {"awsvpcConfiguration": configuration}}


def _container_settings(settings: Settings, credential: Credential) -> ContainerSettings:
    plain_key = settings.plain_api_key or ""
    if settings.secret_reference and settings.allow_plain_api_key:
        plain_key = credential.value() or ""
    if plain_key or settings.plain_auth_token:
        LOGGER.warning("The API key will stand in plain text in every task: give the ARN of a secret in its place")
    return ContainerSettings(
        api_url=settings.api_url,
        backend=settings.backend,
        labels=settings.labels,
        env_vars=settings.env_vars,
        log_level=settings.flow_run_log_level,
        send_logs=settings.send_flow_run_logs,
        api_key=plain_key,
        auth_token=settings.plain_auth_token or "",
        secret_reference=settings.secret_reference,
    )
