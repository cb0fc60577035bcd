"""`health`: the Lambda's verdict at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.cli.health import run_health
from chalicelib.clock import SystemClock
from chalicelib.settings import Settings, load_settings
from tests.doubles.clock import TurnedClock
from tests.doubles.prefect1 import Prefect1Server
from tests.prefect1_agents import make_api


@pytest.fixture
def prefect() -> Iterator[Prefect1Server]:
    with Prefect1Server() as server:
        yield server


def settings_for(server: Prefect1Server) -> Settings:
    given = {"PREFECT__CLOUD__API": server.url, "PREFECT__CLOUD__AGENT__NAME": "lambda", "AGENT_PLATFORM": "ecs"}
    return load_settings(given)


def poll(server: Prefect1Server) -> None:
    clock = SystemClock()
    make_api(server, clock).record_and_poll([], clock.now())


def test_an_agent_that_polls_is_ok(prefect: Prefect1Server, capsys: pytest.CaptureFixture[str]) -> None:
    poll(prefect)
    assert run_health(settings_for(prefect)) == 0
    assert capsys.readouterr().out.startswith("ok: Polled ")


def test_an_agent_that_never_polled_is_not(prefect: Prefect1Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_health(settings_for(prefect)) == 1
    assert "unhealthy: This agent has never polled" in capsys.readouterr().out
    assert prefect.agents() == []


def test_a_run_that_nobody_claims_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    clock = TurnedClock(datetime.now(UTC) - timedelta(seconds=600))
    with Prefect1Server(clock=clock) as prefect:
        prefect.add_flow_run()
        clock.turn(600)
        poll(prefect)
        assert run_health(settings_for(prefect)) == 1
    assert "A due flow run has waited for 60" in capsys.readouterr().out


def test_a_prefect_that_is_away_is_a_verdict_too(capsys: pytest.CaptureFixture[str]) -> None:
    with Prefect1Server() as prefect:
        settings = settings_for(prefect)
    assert run_health(settings) == 1
    assert f"unhealthy: {settings.api_url}" in capsys.readouterr().out
