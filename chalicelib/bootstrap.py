"""The only place where real things are built and joined: settings in, an agent or a whole installation out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property

from chalicelib.agent import Agent
from chalicelib.clock import SystemClock
from chalicelib.credentials import Credential, read_secret
from chalicelib.health import HealthCheck, HealthLimits
from chalicelib.launchers.aws import AwsClients
from chalicelib.platforms import PLATFORMS, build_launcher
from chalicelib.ports import Clock
from chalicelib.prefect_api.graphql import GraphQLClient
from chalicelib.prefect_api.prefect1 import Prefect1API
from chalicelib.prefect_api.prefect1_records import Identity, Recorder
from chalicelib.prefect_api.transport import HttpTransport
from chalicelib.settings import Settings
from chalicelib.settings_table import DEFAULT_SCHEDULE
from chalicelib.sweep import Manners
from chalicelib.telemetry import LambdaLog
from chalicelib.ticks import Ticks
from chalicelib.wakeups import WakeupQueue

LOGGER = logging.getLogger(__name__)

DEFAULT_QUEUES = {"AGENT_WAKEUP_QUEUE_URL": "prefect-agent-wakeups", "AGENT_EVENTS_QUEUE_URL": "prefect-agent-events"}


def build_agent(settings: Settings, clients: AwsClients | None = None, reads_local_templates: bool = True) -> Agent:
    """The agent that `settings` describe. Nothing is asked of Prefect or AWS yet, but for templates of the operator's.

    Raises SettingsError with all problems of those templates.
    """
    clock = SystemClock()
    clients = clients or AwsClients()
    credential = build_credential(settings, clients)
    launcher = build_launcher(settings, credential, clients, clock, reads_local_templates)
    manners = Manners(settings.cancel_grace_seconds, settings.strays)
    return Agent(build_prefect(settings, credential, clock), launcher, clock, manners)


def build_credential(settings: Settings, clients: AwsClients) -> Credential:
    """The key or token of `settings`; one that is given by reference is read when it is first used."""
    reference = settings.secret_reference
    if reference is not None:
        return Credential(read=lambda: read_secret(reference, clients))
    return Credential(settings.plain_api_key or settings.plain_auth_token)


def build_prefect(settings: Settings, credential: Credential, clock: Clock) -> Prefect1API:
    """The Prefect API, seen from this agent."""
    identity = Identity(PLATFORMS[settings.platform].agent_type, settings.name, settings.labels)
    client = GraphQLClient(HttpTransport(settings.api_url, clock, credential))
    recorder = Recorder(identity, settings.defer_deadline_seconds)
    return Prefect1API(client, recorder, clock, settings.backend, settings.tenant_id or "")


def schedule(environment: Mapping[str, str]) -> str:
    """The schedule expression that the functions are deployed with."""
    return environment.get("AGENT_SCHEDULE", DEFAULT_SCHEDULE)


def queue_name(environment: Mapping[str, str], setting: str) -> str:
    """The name of the queue of wake-ups or events: the end of its URL, as AWS makes it."""
    return environment.get(setting, DEFAULT_QUEUES[setting]).rsplit("/", 1)[-1]


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
