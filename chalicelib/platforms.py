"""The platforms, built out of the settings: what an agent launches on."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.credentials import Credential
from chalicelib.errors import SettingsError
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.templates import TemplateReader, read_own_template
from chalicelib.platform_parts import build_kubernetes_api, build_local_launcher, build_pace, network_arguments
from chalicelib.ports import Clock, Launcher
from chalicelib.settings import Settings

LOGGER = logging.getLogger(__name__)


class Platform(NamedTuple):
    """A platform: what kind of agent Prefect knows it by, and what makes its launcher.

    What makes it imports it, so that an agent of one platform pays for no other.
    """

    agent_type: str
    build_launcher: Callable[[Settings, ContainerSettings, TemplateReader, AwsClients, Clock], Launcher]


def build_launcher(
    settings: Settings, credential: Credential, clients: AwsClients, clock: Clock, reads_local_templates: bool
) -> Launcher:
    """The launcher of the platform that `settings` name. Raises SettingsError with all problems of its templates."""
    templates = TemplateReader(settings.template_paths, clients.s3, reads_local_templates)
    container = _container_settings(settings, credential)
    return PLATFORMS[settings.platform].build_launcher(settings, container, templates, clients, clock)


def _build_kubernetes(
    settings: Settings, container: ContainerSettings, templates: TemplateReader, clients: AwsClients, clock: Clock
) -> Launcher:
    from chalicelib.builders.kubernetes_defaults import KubernetesDefaults, SecretKey, built_in_job
    from chalicelib.launchers.kubernetes import KubernetesLauncher
    from chalicelib.launchers.kubernetes_kinds import run_config_jobs

    path, secret = settings.job_template_path, settings.api_key_secret
    defaults = KubernetesDefaults(
        container=container,
        namespace=settings.namespace,
        job_template=read_own_template(path, clients.s3) if path else built_in_job(),
        service_account_name=settings.service_account_name,
        image_pull_secrets=settings.image_pull_secrets or (),
        image_pull_policy=settings.image_pull_policy,
        ttl_seconds_after_finished=settings.job_ttl_seconds,
        api_key_secret=SecretKey(*secret.split("/")) if secret else None,
        allow_plain_api_key=settings.allow_plain_api_key,
        agent_name=settings.name,
    )
    defaults.validate()
    api, pace = build_kubernetes_api(settings, clients, clock), build_pace(settings, "KUBERNETES", clock)
    return KubernetesLauncher(api, run_config_jobs(defaults, templates), pace, clock)


def _build_ecs(
    settings: Settings, container: ContainerSettings, templates: TemplateReader, clients: AwsClients, clock: Clock
) -> Launcher:
    from chalicelib.builders.ecs_defaults import EcsDefaults, built_in_definition
    from chalicelib.launchers.ecs import EcsLauncher
    from chalicelib.launchers.ecs_run_configs import RunConfigTasks
    from chalicelib.launchers.ecs_shapes import shape_problems

    template, arguments = built_in_definition(), network_arguments(settings)
    if settings.task_definition_path:
        template = dict(read_own_template(settings.task_definition_path, clients.s3))
    if settings.run_task_kwargs_path:
        arguments = {**arguments, **read_own_template(settings.run_task_kwargs_path, clients.s3)}
    defaults = EcsDefaults(
        container=container,
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
    pace = build_pace(settings, defaults.effective_launch_type or "FARGATE", clock)
    return EcsLauncher(clients, defaults, RunConfigTasks(clients, defaults, templates), pace, clock)


def _build_docker(
    settings: Settings, container: ContainerSettings, _templates: TemplateReader, _clients: AwsClients, clock: Clock
) -> Launcher:
    try:
        from chalicelib.launchers.docker import DockerLauncher, DockerOptions
    except ImportError:
        needed = "the platform docker needs the Docker SDK: pip install 'prefect-agent-lambda[docker]'"
        raise SettingsError([needed]) from None
    options = DockerOptions(
        base_url=settings.docker_base_url,
        pulls=settings.docker_pull,
        volumes=settings.docker_volumes,
        networks=settings.docker_networks,
        timeout_seconds=settings.docker_timeout_seconds,
        agent_name=settings.name,
        shows_logs=settings.show_flow_logs,
    )
    return DockerLauncher(container, options, clock)


def _build_local(
    settings: Settings, container: ContainerSettings, _templates: TemplateReader, _clients: AwsClients, clock: Clock
) -> Launcher:
    from chalicelib.builders.local_process import LocalDefaults, build_local_run

    defaults = LocalDefaults(
        container=container,
        directory=str(Path.cwd()),
        python_path=os.environ.get("PYTHONPATH", ""),
        import_paths=settings.import_paths,
        shows_output=settings.show_flow_logs,
    )
    return build_local_launcher(partial(build_local_run, defaults=defaults), settings, clock)


PLATFORMS = {
    "ecs": Platform("ECSAgent", _build_ecs),
    "kubernetes": Platform("KubernetesAgent", _build_kubernetes),
    "docker": Platform("DockerAgent", _build_docker),
    "local": Platform("LocalAgent", _build_local),
}
"""What this agent can start flow runs on, by `AGENT_PLATFORM`; who imports this package may add to it."""


def _container_settings(settings: Settings, credential: Credential) -> ContainerSettings:
    plain_key = settings.plain_api_key or ""
    # ECS and Kubernetes hand a secret to what they start; what else there is must be given the key itself.
    hands_secrets = settings.platform in ("ecs", "kubernetes")
    if settings.secret_reference and (settings.allow_plain_api_key or not hands_secrets):
        plain_key = credential.value() or ""
    is_told = settings.platform == "kubernetes" and settings.api_key_secret
    if (plain_key or settings.plain_auth_token) and hands_secrets and not is_told:
        LOGGER.warning("The API key will stand in plain text in every task or Job: name a secret that holds it instead")
    return ContainerSettings(
        api_url=settings.api_url,
        backend=settings.backend,
        labels=settings.labels,
        env_vars=settings.env_vars,
        log_level=settings.flow_run_log_level,
        send_logs=settings.send_flow_run_logs,
        api_key=plain_key,
        auth_token=settings.plain_auth_token or "",
        secret_reference=settings.secret_reference if hands_secrets else None,
    )
