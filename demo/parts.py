"""The embedded parts: Prefect Cloud's API, ECS and the other AWS services, all on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import boto3
from moto.server import ThreadedMotoServer

from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import CLOUD_KEY, Prefect1Server

CLUSTER, AGENT, LABELS = "flows", "demo", ("dev", "etl")
CADENCE_SECONDS = 6
EXECUTION_ROLE = "arn:aws:iam::123456789012:role/execution"
API_KEY = CLOUD_KEY
FOREIGN_PREFIXES = ("AWS_", "AGENT_", "PREFECT", "SCHEDULE")
"""What begins so in the caller's environment is about a real installation and does not reach the demo."""


@dataclass(frozen=True)
class Parts:
    """What the demo runs on; `environment` is what a stage's functions would find there."""

    prefect: Prefect1Server
    ecs: EcsServer
    queue_url: str
    environment: dict[str, str]


@contextmanager
def embedded_parts() -> Iterator[Parts]:
    """All parts running, and this process's environment set to them; afterwards as it was, and all stopped."""
    with ExitStack() as stack:
        prefect = stack.enter_context(Prefect1Server(cloud=True))
        ecs = stack.enter_context(EcsServer(clusters=(CLUSTER,)))
        moto_url = stack.enter_context(_moto())
        aws = _aws_environment(moto_url, ecs.url)
        stack.enter_context(_environment(aws))
        secret_arn, queue_url = _make_secret(), _make_queue()
        agent = _agent_environment(prefect.url, secret_arn, queue_url)
        stack.enter_context(_environment(aws | agent))
        yield Parts(prefect, ecs, queue_url, aws | agent)


@contextmanager
def _moto() -> Iterator[str]:
    # Its server would write a line for each request.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    kept = {name: value for name, value in before.items() if not name.startswith(FOREIGN_PREFIXES)}
    _replace_environment(kept | variables)
    try:
        yield
    finally:
        _replace_environment(before)


def _replace_environment(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def _aws_environment(moto_url: str, ecs_url: str) -> dict[str, str]:
    return {
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_ENDPOINT_URL": moto_url,
        "AWS_ENDPOINT_URL_ECS": ecs_url,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def _agent_environment(prefect_url: str, secret_arn: str, queue_url: str) -> dict[str, str]:
    return {
        "PREFECT__BACKEND": "cloud",
        "PREFECT__CLOUD__API": prefect_url,
        "PREFECT__CLOUD__API_KEY": secret_arn,
        "PREFECT__CLOUD__AGENT__NAME": AGENT,
        "PREFECT__CLOUD__AGENT__LABELS": f'["{LABELS[0]}", "{LABELS[1]}"]',
        "AGENT_CLUSTER": CLUSTER,
        "AGENT_EXECUTION_ROLE_ARN": EXECUTION_ROLE,
        "AGENT_WAKEUP_QUEUE_URL": queue_url,
        "AGENT_CADENCE_SECONDS": str(CADENCE_SECONDS),
    }


def _make_secret() -> str:
    client = boto3.client("secretsmanager")
    try:
        return client.create_secret(Name="prefect-api-key", SecretString=API_KEY)["ARN"]
    finally:
        client.close()


def _make_queue() -> str:
    client = boto3.client("sqs")
    try:
        return client.create_queue(QueueName="prefect-agent-demo-wakeups")["QueueUrl"]
    finally:
        client.close()
