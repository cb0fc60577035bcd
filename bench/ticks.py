"""What ticks in the Lambda cost: requests, AWS clients and memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import boto3
from moto.server import ThreadedMotoServer

from bench.container import LambdaContainer
from bench.results import Result, at_most, exactly
from bench.surroundings import EcsSurroundings, surroundings

IDLE_TICKS = 5
MEMORY_MB = 45


def measure_wake() -> list[Result]:
    """A wake-up tick with nothing due, in a warm container."""
    with surroundings() as place, LambdaContainer(place) as container:
        container.invoke("wake")
        place.forget()
        answers = [container.invoke("wake") for _ in range(IDLE_TICKS)]
        requests = len(place.requests()) / IDLE_TICKS
    peak_mb = float(answers[-1]["peak_mb"])
    return [
        at_most("requests to Prefect", requests, 1),
        exactly("botocore's clients imported (0 is no)", int(answers[-1]["has_aws_clients"]), 0),
        Result("peak memory", f"{peak_mb:.1f} MB", f"under {MEMORY_MB} MB", peak_mb < MEMORY_MB),
        # Reading it needs one AWS client, once in a container's life; the tick itself builds none.
        Result("the same, the key read from Secrets Manager when cold", f"{_peak_with_secret():.1f} MB"),
    ]


def _peak_with_secret() -> float:
    with surroundings() as place, _secret("bench-key") as (moto_url, arn):
        secret = {"PREFECT__CLOUD__API_KEY": arn, "AWS_ENDPOINT_URL_SECRETS_MANAGER": moto_url}
        role = {"AGENT_EXECUTION_ROLE_ARN": "arn:aws:iam::123456789012:role/execution"}
        with LambdaContainer(place, **secret, **role) as container:
            answers = [container.invoke("wake") for _ in range(2)]
    return float(answers[-1]["peak_mb"])


@contextmanager
def _secret(value: str) -> Iterator[tuple[str, str]]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with ExitStack() as stack:
        server.start()
        stack.callback(server.stop)
        host, port = server.get_host_and_port()
        session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1")
        client = session.client("secretsmanager", endpoint_url=f"http://{host}:{port}")
        stack.callback(client.close)
        yield f"http://{host}:{port}", client.create_secret(Name="prefect-api-key", SecretString=value)["ARN"]


def measure_scheduled() -> list[Result]:
    """A scheduled tick with nothing due, in a new container and in a warm one."""
    with surroundings() as place, LambdaContainer(place) as container:
        container.invoke("tick")
        cold = len(place.requests())
        place.forget()
        container.invoke("tick")
        warm = len(place.requests())
    return [at_most("requests to Prefect, warm", warm, 3), at_most("more of them when cold", cold - warm, 2)]


def measure_batch() -> list[Result]:
    """25 due runs of 3 distinct definitions, in a warm container."""
    with surroundings() as place, LambdaContainer(place) as container:
        container.invoke("wake")
        place.add_due_runs(25, images=3)
        place.forget()
        launched = container.invoke("wake")["returned"]["launched"]
        return [exactly("runs launched", launched, 25), *_batch_costs(place)]


def _batch_costs(place: EcsSurroundings) -> list[Result]:
    return [
        exactly("requests to Prefect", len(place.requests()), 4),
        exactly("RunTask", place.ecs.count("RunTask"), 25),
        at_most("RegisterTaskDefinition", place.ecs.count("RegisterTaskDefinition"), 3),
    ]
