"""Ticks between two scheduled ones, woken by delayed messages, because EventBridge fires once a minute at best.

The scheduled tick sends one message for each further tick of its minute. A message says when it was planned for: one
that arrives over a cadence late is dropped, as the next is already due.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from chalicelib.ports import Clock

LOGGER = logging.getLogger(__name__)

SCHEDULE_SECONDS = 60
"""The period that a scheduled tick plans for."""

BATCH_LIMIT = 10
"""Messages in one SendMessageBatch: the limit in the SQS API reference."""


class WakeupQueue:
    """Sends wake-ups to one SQS queue. `sqs_client` is called when there is something to send, and not before."""

    def __init__(self, url: str, sqs_client: Callable[[], Any], clock: Clock) -> None:
        self.url = url
        self.clock = clock
        self._sqs_client = sqs_client

    def plan(self, cadence_seconds: int) -> int:
        """Send the wake-ups of the coming minute; how many were not taken. Trouble with the queue is only logged.

        Without them the agent still ticks once a minute, so a broken queue must not break the scheduled tick too.
        """
        messages = plan_wakeups(self.clock.now(), cadence_seconds)
        failed = 0
        for start in range(0, len(messages), BATCH_LIMIT):
            failed += self._send(messages[start : start + BATCH_LIMIT])
        return failed

    def poke(self) -> None:
        """Ask for a tick now. Raises what the AWS SDK raises."""
        now = self.clock.now()
        self._sqs_client().send_message(QueueUrl=self.url, MessageBody=_body(now))

    def _send(self, messages: Sequence[dict[str, Any]]) -> int:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._sqs_client().send_message_batch(QueueUrl=self.url, Entries=list(messages))
        except (BotoCoreError, ClientError) as error:
            LOGGER.warning("Wake-ups could not be sent: %s", error)
            return len(messages)
        for failure in answer.get("Failed", []):
            LOGGER.warning("A wake-up was refused: %s", failure.get("Message"))
        return len(answer.get("Failed", []))


def plan_wakeups(now: datetime, cadence_seconds: int) -> list[dict[str, Any]]:
    """SendMessageBatch entries for the ticks between now and the next scheduled one (pure)."""
    return [
        {"Id": str(delay), "DelaySeconds": delay, "MessageBody": _body(now + timedelta(seconds=delay))}
        for delay in range(cadence_seconds, SCHEDULE_SECONDS, cadence_seconds)
    ]


def is_timely(bodies: Iterable[str], now: datetime, cadence_seconds: int) -> bool:
    """Whether any of these messages still asks for a tick; a body that is not ours asks for one, whoever sent it."""
    return any(_age_seconds(body, now) <= cadence_seconds for body in bodies)


def _body(planned_for: datetime) -> str:
    return json.dumps({"planned_for": planned_for.isoformat()})


def _age_seconds(body: str, now: datetime) -> float:
    try:
        return (now - datetime.fromisoformat(json.loads(body)["planned_for"])).total_seconds()
    except (ValueError, KeyError, TypeError):
        return 0.0
