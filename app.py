"""What AWS calls: one thin handler for each trigger. Each translates its event, calls one function, maps the answer."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

from chalice.app import Chalice, CloudWatchEvent, IAMAuthorizer, Response, SQSEvent

from chalicelib.bootstrap import Installation, queue_name, schedule, serves_api
from chalicelib.errors import SettingsError
from chalicelib.health import Verdict
from chalicelib.settings import load_settings
from chalicelib.ticks import Invocation

View = Callable[[], Response]
app = Chalice(app_name="prefect-agent")
signed_in = IAMAuthorizer()


@cache
def installation() -> Installation:
    """What this Lambda container runs, built when it is first asked for and kept while the container lives."""
    return Installation(load_settings(os.environ))


def _route(path: str, method: str, **options: Any) -> Callable[[View], View]:
    """A route of the API, where the stage has one: without it nothing listens."""
    return app.route(path, methods=[method], **options) if serves_api(os.environ) else lambda view: view


@app.schedule(schedule(os.environ))
def tick(event: CloudWatchEvent) -> dict[str, Any]:
    """The scheduled tick. Raises when it could do nothing at all, so that Lambda's Errors metric tells the truth."""
    return installation().ticks.run_scheduled(_invocation(event.context))


@app.on_sqs_message(queue=queue_name(os.environ, "AGENT_WAKEUP_QUEUE_URL"), batch_size=10)
def wake(event: SQSEvent) -> dict[str, Any]:
    """A tick between two scheduled ones, for any number of wake-ups at once."""
    bodies = [record.body for record in event]
    return installation().ticks.run_woken(bodies, _invocation(event.context))


@app.on_sqs_message(queue=queue_name(os.environ, "AGENT_EVENTS_QUEUE_URL"), batch_size=10)
def task_stopped(event: SQSEvent) -> dict[str, Any]:
    """ECS says that tasks have stopped. Raises when that could not be dealt with, so that the messages come again."""
    bodies = [record.body for record in event]
    return installation().ticks.run_stopped(bodies, _invocation(event.context))


@_route("/api/health", "GET")
def health() -> Response:
    """Well or not, for anybody: 200 or 503."""
    verdict = _verdict()
    return Response({"status": verdict.status}, status_code=200 if verdict.is_healthy else 503)


@_route("/api/health/details", "GET", authorizer=signed_in)
def health_details() -> Response:
    """The verdict with its reason, for whoever may sign the request."""
    verdict = _verdict()
    return Response(verdict.as_dict(), status_code=200 if verdict.is_healthy else 503)


@_route("/api/poke", "POST", authorizer=signed_in)
def poke() -> Response:
    """Ask for a tick now."""
    wakeups = installation().wakeups
    if wakeups is None:
        reason = "There is no wake-up queue; set AGENT_WAKEUP_QUEUE_URL, or wait for the schedule"
        return Response({"status": "not poked", "reason": reason}, status_code=409)
    wakeups.poke()
    return Response({"status": "poked"}, status_code=202)


def _verdict() -> Verdict:
    try:
        return installation().health.verdict()
    except SettingsError as error:
        return Verdict(False, str(error))


def _invocation(context: Any) -> Invocation:
    return Invocation(context.aws_request_id, context.get_remaining_time_in_millis() / 1000.0)
