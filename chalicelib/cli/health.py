"""`prefect-agent health`: the verdict that the Lambda gives at /api/health/details, for whoever sits at a terminal."""

from __future__ import annotations

from chalicelib.bootstrap import build_credential, build_prefect
from chalicelib.clock import SystemClock
from chalicelib.health import HealthCheck, HealthLimits
from chalicelib.launchers.aws import AwsClients
from chalicelib.settings import Settings


def run_health(settings: Settings) -> int:
    """Print the verdict and its reason; 0 if this agent serves its flow runs, else 1. Nothing is polled for that."""
    clock, clients = SystemClock(), AwsClients()
    limits = HealthLimits(settings.poll_age_limit_seconds, settings.backlog_age_limit_seconds)
    verdict = HealthCheck(build_prefect(settings, build_credential(settings, clients), clock), limits, clock).verdict()
    clients.close()
    print(f"{verdict.status}: {verdict.reason}")
    return 0 if verdict.is_healthy else 1
