"""A stage of the real app on its doubles, the clock on the wall, and flow runs that it has launched."""

from __future__ import annotations

import json
from typing import Any

from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import Prefect1Server
from tests.integration.lambdas import Lambdas

ECS_RUN = {"type": "ECSRun", "image": "prefecthq/prefect:1.4.1", "cpu": "512", "memory": "1024"}
Event = dict[str, Any]


class Stage:
    """The app's functions and what they work on."""

    def __init__(self, lambdas: Lambdas, prefect: Prefect1Server, ecs: EcsServer) -> None:
        self.lambdas = lambdas
        self.prefect = prefect
        self.ecs = ecs

    def launch(self, resubmit: str | None = None, begins: bool = False, cluster: str = "flows") -> tuple[str, str]:
        """A launched flow run and its task, which the flow has begun in or has not."""
        env = {"AGENT_RESUBMIT": resubmit} if resubmit else {}
        where = {} if cluster == "flows" else {"run_task_kwargs": {"cluster": cluster}}
        run_id = self.prefect.add_flow_run(labels=["dev"], run_config={**ECS_RUN, "env": env, **where})
        self.lambdas.tick()
        (arn,) = [task["taskArn"] for task in self.ecs.tasks() if task["startedBy"] == f"prefect/{run_id}"]
        if begins:
            self.ecs.advance(arn, "RUNNING")
            self.prefect.set_state(run_id, {"type": "Running"})
        return run_id, arn

    def stop_events(self) -> list[Event]:
        """What ECS has said about tasks that stopped."""
        return [event for event in self.ecs.events if event["detail"]["lastStatus"] == "STOPPED"]

    def hear(self, *events: Event) -> dict[str, Any]:
        """Deliver these events in one batch to a container that has just started; the handler's return value."""
        self.lambdas.freeze()
        return self.lambdas.task_stopped(*(json.dumps(event) for event in events))

    def look(self, *run_ids: str) -> list[Any]:
        """All that Prefect shows of these runs."""
        return [(self.prefect.flow_run(run_id), self.prefect.logs(run_id)) for run_id in run_ids]


def assert_failed(stage: Stage, run_id: str, *parts: str) -> None:
    """The run is Failed, its message has all these parts, and is the only error in its log."""
    row = stage.prefect.flow_run(run_id)
    assert row["state"] == "Failed"
    assert [part for part in parts if part not in row["state_message"]] == []
    errors = [line["message"] for line in stage.prefect.logs(run_id) if line["level"] == "ERROR"]
    assert errors == [row["state_message"]]
