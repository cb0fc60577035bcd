"""The whole agent on doubles: Prefect 1 and ECS of our own, moto for the other AWS services, all over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from moto.moto_api import state_manager
from moto.server import ThreadedMotoServer

from chalicelib.prefect_api.portions import Portions
from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import Prefect1Server
from tests.integration.lambdas import Lambdas

pytest.register_assert_rewrite(
    *(f"tests.integration.{name}" for name in ("launched", "kubernetes_launched", "stage", "account"))
)

REGION = "us-east-1"


@pytest.fixture(autouse=True)
def no_slowness_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Prefect that takes long is asked in more requests, and here that would be this machine, which may be busy."""
    monkeypatch.setattr(Portions, "learn", lambda *_: None)


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    state_manager.set_transition("ecs::task", {"progression": "immediate"})
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def prefect() -> Iterator[Prefect1Server]:
    with Prefect1Server() as server:
        yield server


@pytest.fixture
def ecs() -> Iterator[EcsServer]:
    with EcsServer(clusters=("flows", "spare")) as server:
        yield server


@pytest.fixture
def environment(prefect: Prefect1Server, ecs: EcsServer, moto_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stage's functions find in their environment, with the doubles where AWS would be."""
    variables = {
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_ENDPOINT_URL": moto_url,
        "AWS_ENDPOINT_URL_ECS": ecs.url,
        "PREFECT__CLOUD__API": prefect.url,
        "PREFECT__CLOUD__AGENT__NAME": "lambda",
        "PREFECT__CLOUD__AGENT__LABELS": '["dev"]',
        "AGENT_CLUSTER": "flows",
        "AGENT_EXECUTION_ROLE_ARN": "arn:aws:iam::123456789012:role/execution",
        # It is looked for them at the beginning of each hour, by the clock on the wall.
        "AGENT_STRAYS": "ignore",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def lambdas(environment: None) -> Iterator[Lambdas]:
    """The app as a fresh Lambda container would have it."""
    with Lambdas() as functions:
        yield functions
