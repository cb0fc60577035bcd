"""The auth string of a real server: it signs in, and is in nothing that the functions write or Prefect shows."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest

from chalicelib.errors import PrefectUnauthorized
from tests.doubles.ecs import EcsServer
from tests.integration.lambdas import Lambdas
from tests.prefect3.pool_world import AWS, CLUSTER, ecs_template
from tests.prefect3.server import Prefect3Server

pytestmark = pytest.mark.server

AUTH_STRING, WRONG = "planted-user:planted-word-0NobodyMaySee0", "planted-user:other-word-0NobodyMaySee0"


@pytest.fixture
def signed() -> Iterator[Prefect3Server]:
    with Prefect3Server(auth_string=AUTH_STRING) as server:
        yield server


@pytest.fixture
def lambdas(signed: Prefect3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lambdas]:
    pool = signed.create_pool("ecs", ecs_template(), "guarded")
    settings = {
        "PREFECT_API_URL": signed.url,
        "PREFECT_API_AUTH_STRING": AUTH_STRING,
        "PREFECT__CLOUD__AGENT__LEVEL": "DEBUG",
        "AGENT_WORK_POOLS": pool,
        "AGENT_CLUSTER": CLUSTER,
        "AGENT_SUBNETS": "subnet-0a1b2c3d",
        "AGENT_STRAYS": "ignore",
    }
    with EcsServer(clusters=(CLUSTER,)) as ecs, Lambdas() as functions:
        for name, value in {**AWS, **settings, "AWS_ENDPOINT_URL_ECS": ecs.url}.items():
            monkeypatch.setenv(name, value)
        yield functions


def hidden_in(text: str) -> list[str]:
    forms = [form for each in (AUTH_STRING, WRONG) for form in (each, each.partition(":")[2])]
    forms += [base64.b64encode(each.encode()).decode() for each in (AUTH_STRING, WRONG)]
    return [form for form in forms if form in text]


def test_the_auth_string_signs_in_and_is_seen_nowhere(
    signed: Prefect3Server,
    lambdas: Lambdas,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    deployment = signed.create_deployment("guarded")
    good = signed.create_run(deployment)
    bad = signed.create_run(deployment, job_variables={"env": {"A": "x" * 9000}})
    report = lambdas.tick()
    assert [report["launched"], signed.state(good)["type"], signed.state(bad)["type"]] == [1, "PENDING", "CRASHED"]
    assert lambdas.get("/api/health") == (200, {"status": "ok"})
    told = [report, lambdas.wake("{}"), lambdas.get("/api/health/details")]
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", WRONG)
    lambdas.freeze()
    with pytest.raises(PrefectUnauthorized, match="PREFECT_API_AUTH_STRING") as caught:
        lambdas.tick()
    told += [lambdas.wake("{}"), lambdas.get("/api/health/details"), str(caught.value)]
    shown = [[signed.states(run_id), signed.logs(run_id), signed.run(run_id)] for run_id in (good, bad)]
    written = "".join(capfd.readouterr())
    assert '"message":"Tick"' in written
    assert hidden_in(written + json.dumps([told, shown], default=str)) == []
