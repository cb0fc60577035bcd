"""A queue for the wake-ups of a stage, at an SQS on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import boto3
from moto.server import ThreadedMotoServer


@contextmanager
def wakeup_queue() -> Iterator[dict[str, str]]:
    """A queue to which the scheduled tick can send its wake-ups, as the functions' environment knows it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1")
    with ExitStack() as stack:
        server.start()
        stack.callback(server.stop)
        host, port = server.get_host_and_port()
        client = session.client("sqs", endpoint_url=f"http://{host}:{port}")
        stack.callback(client.close)
        queue_url = client.create_queue(QueueName="prefect-agent-wakeups")["QueueUrl"]
        yield {"AWS_ENDPOINT_URL_SQS": f"http://{host}:{port}", "AGENT_WAKEUP_QUEUE_URL": queue_url}
