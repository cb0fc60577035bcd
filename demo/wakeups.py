"""The event source mapping of the demo: takes wake-ups out of the queue for the handler."""

from __future__ import annotations

import boto3

from demo.stages import CADENCE_SECONDS


def receive_wakeups(queue_url: str) -> list[str]:
    """The bodies of the messages that arrive next; waits for the first, for two cadences at most."""
    client = boto3.client("sqs")
    try:
        answer = client.receive_message(
            QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=min(20, 2 * CADENCE_SECONDS)
        )
        return [message["Body"] for message in answer.get("Messages", [])]
    finally:
        client.close()
