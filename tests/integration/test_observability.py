"""What the functions write to their log: little while nothing happens, and enough to follow a flow run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chalicelib.errors import PrefectUnreachable
from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import Prefect1Server
from tests.integration.lambdas import Lambdas
from tests.integration.stage import ECS_RUN

IDLE_BYTES = 1024


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    out, err = capfd.readouterr()
    assert err == ""
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("handler", ["tick", "wake"])
def test_an_idle_tick_writes_one_line_of_a_kilobyte_at_most(
    lambdas: Lambdas, prefect: Prefect1Server, capfd: pytest.CaptureFixture[str], handler: str
) -> None:
    lambdas.tick()
    capfd.readouterr()
    assert (lambdas.tick() if handler == "tick" else lambdas.wake("{}"))["found"] == 0
    out, err = capfd.readouterr()
    assert 0 < len((out + err).encode()) <= IDLE_BYTES
    (line,) = out.splitlines()
    document = json.loads(line)
    assert document["tick_id"]
    assert document["Found"] == [0]


def test_every_line_has_the_ticks_id_and_those_of_a_run_its_id(
    lambdas: Lambdas,
    prefect: Prefect1Server,
    ecs: EcsServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AGENT_SUBNETS", "subnet-0a1b2c3d")
    lambdas.tick()
    capfd.readouterr()
    good = prefect.add_flow_run(labels=["dev"], run_config=ECS_RUN)
    bad = prefect.add_flow_run(labels=["dev"], run_config={"type": "DockerRun"})
    lambdas.tick()
    written = lines(capfd)
    assert len({line["tick_id"] for line in written}) == 1
    levels = {line["flow_run_id"]: line["level"] for line in written if "flow_run_id" in line}
    assert levels == {good: "INFO", bad: "WARNING"}
    assert all(line["flow_run_id"] in line["message"] for line in written if "flow_run_id" in line)
    (tick,) = [line for line in written if line["message"] == "Tick"]
    assert (tick["Found"], tick["Launched"], tick["Failed"]) == ([2], [1], [1])
    assert 0 <= tick["LaunchLateness"][0] < 60


def test_a_tick_that_could_not_poll_has_no_metrics_so_that_their_absence_is_the_alarm(
    lambdas: Lambdas, prefect: Prefect1Server, capfd: pytest.CaptureFixture[str]
) -> None:
    lambdas.tick()
    capfd.readouterr()
    prefect.faults.add(then="html", times=None)
    with pytest.raises(PrefectUnreachable):
        lambdas.tick()
    lambdas.wake("{}")
    written = lines(capfd)
    assert [line["level"] for line in written] == ["ERROR"]
    assert not any("_aws" in line for line in written)
