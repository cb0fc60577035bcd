"""The only place where real things are built and joined: settings in, an agent or a whole installation out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from chalicelib.agent import Agent
from chalicelib.clock import SystemClock
from chalicelib.credentials import Credential, read_secret
from chalicelib.health import HealthCheck, HealthLimits
from chalicelib.launchers.aws import AwsClients
from chalicelib.ports import Clock
from chalicelib.prefect_api.transport import PREFECT3_AUTH_STRING, PREFECT3_KEY, HttpTransport
from chalicelib.settings import Settings
from chalicelib.settings_table import DEFAULT_SCHEDULE
from chalicelib.sweep import Manners
from chalicelib.telemetry import LambdaLog
from chalicelib.ticks import Ticks
from chalicelib.wakeups import WakeupQueue

if TYPE_CHECKING:
    from chalicelib.prefect_api.prefect1 import Prefect1API
    from chalicelib.prefect_api.prefect3 import Prefect3API

LOGGER = logging.getLogger(__name__)

DEFAULT_QUEUES = {"AGENT_WAKEUP_QUEUE_URL": "prefect-agent-wakeups", "AGENT_EVENTS_QUEUE_URL": "prefect-agent-events"}


DEFAULT_LEAD_SECONDS = 10.0
"""How long before its time Prefect's own workers start a run of a work pool."""


def build_agent(settings: Settings, clients: AwsClients | None = None, is_on_a_machine: bool = True) -> Agent:
    """The agent that `settings` describe. Nothing is asked of Prefect or AWS yet, but for templates of the operator's.

    On a machine of somebody's it reads templates and runs processes there; in the Lambda it does neither. Raises
    SettingsError with all problems of those templates.
    """
    clock = SystemClock()
    clients = clients or AwsClients()
    credential = build_credential(settings, clients)
    manners = Manners(settings.cancel_grace_seconds, settings.strays, settings.linger_seconds)
    if not settings.work_pools:
        from chalicelib.platforms import build_launcher

        launcher = build_launcher(settings, credential, clients, clock, is_on_a_machine)
        return Agent(build_prefect1(settings, credential, clock), launcher, clock, manners)
    from chalicelib.pool_platforms import build_pool_launcher

    prefect = build_prefect3(settings, credential, clock, is_on_a_machine)
    present_types = prefect.reader.present_types
    pools = build_pool_launcher(settings, credential, clients, clock, present_types, is_on_a_machine)
    return Agent(prefect, pools, clock, manners)


def build_credential(settings: Settings, clients: AwsClients) -> Credential:
    """The key or token of `settings`; one that is given by reference is read when it is first used."""
    reference = settings.secret_reference
    if reference is not None:
        return Credential(read=lambda: read_secret(reference, clients))
    return Credential(settings.plain_api_key or settings.plain_auth_token)


def build_prefect(settings: Settings, credential: Credential, clock: Clock) -> Prefect1API | Prefect3API:
    """The Prefect API, seen from this agent: that of work pools where the settings name some."""
    if settings.work_pools:
        return build_prefect3(settings, credential, clock, runs_processes=True)
    return build_prefect1(settings, credential, clock)


def build_prefect3(settings: Settings, credential: Credential, clock: Clock, runs_processes: bool) -> Prefect3API:
    """The API of Prefect 3, seen from this agent."""
    # Each generation is imported where it is used: no tick pays for the other.
    from chalicelib.pool_platforms import served_kinds
    from chalicelib.prefect_api.prefect3 import Prefect3API
    from chalicelib.prefect_api.prefect3_client import Prefect3Client
    from chalicelib.prefect_api.prefect3_pools import WorkPools

    sign_in = PREFECT3_AUTH_STRING if settings.auth_token else PREFECT3_KEY
    client = Prefect3Client(HttpTransport(settings.api_url, clock, credential, sign_in))
    leads = settings.lead_seconds
    pools = WorkPools(
        agent_name=settings.name,
        names=settings.work_pools,
        kinds=served_kinds(runs_processes),
        queues=settings.work_queues,
        lead_seconds={name: leads.get(name, leads.get("", DEFAULT_LEAD_SECONDS)) for name in settings.work_pools},
    )
    return Prefect3API(client, pools, clock, settings.defer_deadline_seconds)


def build_prefect1(settings: Settings, credential: Credential, clock: Clock) -> Prefect1API:
    """The API of Prefect 1, seen from this agent."""
    from chalicelib.platforms import PLATFORMS
    from chalicelib.prefect_api.graphql import GraphQLClient
    from chalicelib.prefect_api.prefect1 import Prefect1API
    from chalicelib.prefect_api.prefect1_records import Identity, Recorder

    identity = Identity(PLATFORMS[settings.platform].agent_type, settings.name, settings.labels)
    client = GraphQLClient(HttpTransport(settings.api_url, clock, credential))
    recorder = Recorder(identity, settings.defer_deadline_seconds)
    return Prefect1API(client, recorder, clock, settings.backend, settings.tenant_id or "")


def schedule(environment: Mapping[str, str]) -> str:
    """The schedule expression that the functions are deployed with."""
    return environment.get("AGENT_SCHEDULE", DEFAULT_SCHEDULE)


def serves_api(environment: Mapping[str, str]) -> bool:
    """Whether the functions are deployed with the health endpoint and its API."""
    return environment.get("AGENT_SERVES_API", "true").strip().lower() not in ("false", "0")


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
        agent = build_agent(self.settings, self.clients, is_on_a_machine=False)
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
