"""The real app's functions, called as Lambda calls them, in containers that a test can make anew."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any

from chalice.test import Client

import app


class Lambdas:
    """`app.py` behind Chalice's own test client. `freeze` throws the warm container away, as Lambda does at times."""

    def __init__(self) -> None:
        self._client = Client(app.app, stage_name="no-such-stage")

    def __enter__(self) -> Lambdas:
        self.freeze()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.freeze()
        ours = logging.getLogger("chalicelib")
        ours.handlers, ours.propagate = [], True

    def freeze(self) -> None:
        """End the container: the next call builds everything again."""
        if app.installation.cache_info().currsize:
            app.installation().clients.close()
        app.installation.cache_clear()

    def tick(self) -> dict[str, Any]:
        """The scheduled tick's return value."""
        event = self._client.events.generate_cw_event(
            source="aws.events", detail_type="Scheduled Event", detail={}, resources=[]
        )
        payload: dict[str, Any] = self._client.lambda_.invoke("tick", event).payload
        return payload

    def wake(self, *bodies: str) -> dict[str, Any]:
        """The return value of a tick that these messages wake."""
        event = self._client.events.generate_sqs_event(message_bodies=list(bodies), queue_name="wakeups")
        payload: dict[str, Any] = self._client.lambda_.invoke("wake", event).payload
        return payload

    def task_stopped(self, *bodies: str) -> dict[str, Any]:
        """The return value for these messages of EventBridge."""
        event = self._client.events.generate_sqs_event(message_bodies=list(bodies), queue_name="events")
        payload: dict[str, Any] = self._client.lambda_.invoke("task_stopped", event).payload
        return payload

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON of a GET."""
        answer = self._client.http.get(path)
        return answer.status_code, answer.json_body

    def post(self, path: str) -> tuple[int, Any]:
        """Status and JSON of a POST."""
        answer = self._client.http.post(path)
        return answer.status_code, answer.json_body
