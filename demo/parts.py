"""The embedded parts: Prefect Cloud's API, ECS and the other AWS services, all on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from tests.doubles.ecs import EcsServer
from tests.doubles.eks import EksServer
from tests.doubles.kubernetes import KubernetesServer
from tests.doubles.prefect1 import CLOUD_KEY, Prefect1Server

CLUSTER, EKS_CLUSTER, NAMESPACE = "flows", "main", "flows"
API_KEY = CLOUD_KEY
FOREIGN_PREFIXES = ("AWS_", "AGENT_", "PREFECT", "SCHEDULE")
"""What begins so in the caller's environment is about a real installation and does not reach the demo."""


@dataclass(frozen=True)
class Parts:
    """What the demo runs on; `secret_arn` is the secret that holds the API key, `aws` the way to AWS's services."""

    prefect: Prefect1Server
    ecs: EcsServer
    kubernetes: KubernetesServer
    queue_url: str
    secret_arn: str
    aws: dict[str, str]

    def tasks_of(self, run_id: str) -> list[dict[str, Any]]:
        """The tasks that were started for a flow run."""
        return [task for task in self.ecs.tasks() if task["startedBy"] == f"prefect/{run_id}"]

    def jobs_of(self, run_id: str) -> list[dict[str, Any]]:
        """The Jobs that were made for a flow run."""
        label = "prefect.io/flow_run_id"
        return [job for job in self.kubernetes.jobs() if job["metadata"]["labels"][label] == run_id]


@contextmanager
def embedded_parts() -> Iterator[Parts]:
    """All parts running, and this process's environment led to them; afterwards as it was, and all stopped."""
    with ExitStack() as stack:
        prefect = stack.enter_context(Prefect1Server(cloud=True))
        ecs = stack.enter_context(EcsServer(clusters=(CLUSTER,)))
        kubernetes = stack.enter_context(KubernetesServer(namespaces=(NAMESPACE,)))
        eks = stack.enter_context(EksServer(kubernetes, EKS_CLUSTER))
        aws = _aws_environment(stack.enter_context(_moto()), ecs.url, eks.url)
        stack.enter_context(environment(aws))
        yield Parts(prefect, ecs, kubernetes, _make_queue(), _make_secret(), aws)


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
def environment(variables: dict[str, str]) -> Iterator[None]:
    """These variables, and of the caller's those that have nothing to do with an installation."""
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


def _aws_environment(moto_url: str, ecs_url: str, eks_url: str) -> dict[str, str]:
    return {
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_ENDPOINT_URL": moto_url,
        "AWS_ENDPOINT_URL_ECS": ecs_url,
        "AWS_ENDPOINT_URL_EKS": eks_url,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
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
