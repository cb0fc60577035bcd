"""What ticks in the Lambda cost: requests, AWS clients and memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import boto3
from moto.server import ThreadedMotoServer

from bench.container import LambdaContainer
from bench.results import Figure, Measurement, at_most, exactly
from bench.surroundings import surroundings
from tests.doubles.ecs import EcsServer

IDLE_TICKS = 5
MEMORY_MB = 45


def measure_wake() -> Iterator[Figure]:
    """Several ticks, each woken by a message, in a container that has ticked before."""
    with surroundings() as place, LambdaContainer(place) as container:
        container.invoke("wake")
        place.forget()
        answers = [container.invoke("wake") for _ in range(IDLE_TICKS)]
        requests = len(place.requests()) / IDLE_TICKS
    yield at_most("", "requests to Prefect", requests, 1)
    yield exactly("", "botocore's clients imported (0 is no)", int(answers[-1]["has_aws_clients"]), 0)
    yield at_most("", "peak memory", float(answers[-1]["peak_mb"]), MEMORY_MB, "MB")
    # Reading it needs one AWS client, once in a container's life; the tick itself builds none.
    yield Figure("", "peak memory, the key read from Secrets Manager when cold", _peak_with_secret(), "MB")


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


def measure_scheduled() -> Iterator[Figure]:
    """One tick of the rule in a new container, one in a warm one."""
    with surroundings() as place, LambdaContainer(place) as container:
        container.invoke("tick")
        cold = len(place.requests())
        place.forget()
        container.invoke("tick")
        warm = len(place.requests())
    yield at_most("", "requests to Prefect, warm", warm, 3)
    yield at_most("", "more of them when cold", cold - warm, 2)


def measure_batch() -> Iterator[Figure]:
    """One tick that finds 25 runs due, in a warm container."""
    with surroundings() as place, LambdaContainer(place) as container:
        container.invoke("wake")
        place.add_due_runs(25, images=3)
        place.forget()
        launched = container.invoke("wake")["returned"]["launched"]
        yield exactly("", "runs launched", launched, 25)
        yield exactly("", "requests to Prefect", len(place.requests()), 4)
        yield exactly("", "RunTask", place.ecs.ask(EcsServer.count, "RunTask"), 25)
        yield at_most("", "RegisterTaskDefinition", place.ecs.ask(EcsServer.count, "RegisterTaskDefinition"), 3)


WAKE = Measurement(
    "A wake-up tick with nothing due",
    "The handlers of `app.py` in a process like a Lambda container, woken by the message of the wake-up queue.",
    measure_wake,
)
SCHEDULED = Measurement(
    "A scheduled tick with nothing due",
    "The tick of the rule, once a minute: it also looks for what was left behind, and for runs that are cancelled.",
    measure_scheduled,
)
BATCH = Measurement(
    "A tick that starts 25 runs", "25 due runs of 3 distinct definitions, in a warm container.", measure_batch
)
