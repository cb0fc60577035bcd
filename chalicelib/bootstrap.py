"""The only place where real things are built and joined: settings in, an agent or a whole installation out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from chalicelib.agent import Agent
from chalicelib.builders.ecs_defaults import EcsDefaults, built_in_definition
from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.clock import SystemClock
from chalicelib.credentials import Credential, read_secret
from chalicelib.health import HealthCheck, HealthLimits
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.ecs import EcsLauncher
from chalicelib.launchers.ecs_shapes import shape_problems
from chalicelib.launchers.pacing import FARGATE_BURST, Pace
from chalicelib.launchers.templates import TemplateReader, read_own_template
from chalicelib.ports import Clock
from chalicelib.prefect_api.graphql import GraphQLClient
from chalicelib.prefect_api.prefect1 import Prefect1API
from chalicelib.prefect_api.prefect1_records import Identity, Recorder
from chalicelib.prefect_api.transport import HttpTransport
from chalicelib.settings import Settings
from chalicelib.settings_table import DEFAULT_SCHEDULE
from chalicelib.telemetry import LambdaLog
from chalicelib.ticks import Ticks
from chalicelib.wakeups import WakeupQueue

LOGGER = logging.getLogger(__name__)

LAUNCHES_PER_SECOND = {"FARGATE": 20.0, "EC2": 40.0}
"""What AWS sustains for RunTask in the larger regions, by launch type: the service quotas of Amazon ECS and Fargate."""

BURST_SECONDS = 5
"""How many seconds' worth of launches may go at once, up to Fargate's burst: with its 20 a second that is all of it."""

DEFAULT_QUEUE_NAME = "prefect-agent-wakeups"


def build_agent(settings: Settings, clients: AwsClients | None = None, reads_local_templates: bool = True) -> Agent:
    """The agent that `settings` describe. Nothing is asked of Prefect or AWS yet, but for templates of the operator's.

    Raises SettingsError with all problems of those templates.
    """
    clock = SystemClock()
    clients = clients or AwsClients()
    credential = build_credential(settings, clients)
    templates = TemplateReader(settings.template_paths, clients.s3, reads_local_templates)
    defaults = build_ecs_defaults(settings, credential, clients)
    launcher = EcsLauncher(clients, defaults, templates, build_pace(settings, defaults, clock), clock)
    return Agent(build_prefect(settings, credential, clock), launcher, clock)


def build_credential(settings: Settings, clients: AwsClients) -> Credential:
    """The key or token of `settings`; one that is given by reference is read when it is first used."""
    reference = settings.secret_reference
    if reference is not None:
        return Credential(read=lambda: read_secret(reference, clients))
    return Credential(settings.plain_api_key or settings.plain_auth_token)


def build_prefect(settings: Settings, credential: Credential, clock: Clock) -> Prefect1API:
    """The Prefect API, seen from this agent."""
    identity = Identity("ECSAgent", settings.name, settings.labels)
    client = GraphQLClient(HttpTransport(settings.api_url, clock, credential))
    recorder = Recorder(identity, settings.defer_deadline_seconds)
    return Prefect1API(client, recorder, clock, settings.backend, settings.tenant_id or "")


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


def schedule(environment: Mapping[str, str]) -> str:
    """The schedule expression that the functions are deployed with."""
    return environment.get("AGENT_SCHEDULE", DEFAULT_SCHEDULE)


def queue_name(environment: Mapping[str, str]) -> str:
    """The name of the wake-up queue: the end of its URL, as AWS makes it."""
    return environment.get("AGENT_WAKEUP_QUEUE_URL", DEFAULT_QUEUE_NAME).rsplit("/", 1)[-1]


class Installation:
    """One stage: each function builds the part that it uses, once, and keeps it while its container lives."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = SystemClock()
        self.clients = AwsClients()
        self.log = LambdaLog(settings.name, settings.log_level)

    @cached_property
    def ticks(self) -> Ticks:
        """The ticks of the schedule and between."""
        # A Lambda's disk has no templates of anybody's, only this code.
        agent = build_agent(self.settings, self.clients, reads_local_templates=False)
        return Ticks(agent, self.log, self.clock, self.settings.cadence_seconds, self.wakeups)

    @cached_property
    def wakeups(self) -> WakeupQueue | None:
        """The queue of wake-ups, where there is one."""
        url = self.settings.wakeup_queue_url
        return WakeupQueue(url, self.clients.sqs, self.clock) if url else None

    @cached_property
    def health(self) -> HealthCheck:
        """The verdict on this agent."""
        limits = HealthLimits(self.settings.poll_age_limit_seconds, self.settings.backlog_age_limit_seconds)
        credential = build_credential(self.settings, self.clients)
        prefect = build_prefect(self.settings, credential, self.clock)
        # The API Gateway gives up after 29 s: an API that hangs is told as unhealthy before that.
        prefect.client.transport.attempts, prefect.client.read_timeout_seconds = 1, 5.0
        return HealthCheck(prefect, limits, self.clock)


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
