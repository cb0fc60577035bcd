"""A flow run that must fail beside a good one, and what each must have become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import Prefect1Server

GOOD = {"type": "ECSRun", "image": "flows:good"}


class Pair:
    """A run that must fail and a good one beside it, which must not notice."""

    def __init__(self, prefect: Prefect1Server, ecs: EcsServer) -> None:
        self.prefect, self.ecs = prefect, ecs
        self.bad = self.good = ""

    def add(self, run_config: Mapping[str, Any], storage: Mapping[str, Any] | None = None) -> None:
        """Schedule both, the bad one first."""
        flow_id = self.prefect.add_flow(storage=storage)
        self.bad = self.prefect.add_flow_run(flow_id, labels=["dev"], run_config=run_config)
        self.good = self.prefect.add_flow_run(labels=["dev"], run_config=GOOD)

    @property
    def reason(self) -> str:
        """Why the bad run failed, as its state says; its log must say the same."""
        row = self.prefect.flow_run(self.bad)
        assert row["state"] == "Failed"
        errors = [line["message"] for line in self.prefect.logs(self.bad) if line["level"] == "ERROR"]
        assert errors == [row["state_message"]]
        return str(row["state_message"])

    def check_the_good_one(self) -> None:
        """It is Submitted, its log says as what, and it has one task."""
        check_launched(self.prefect, self.ecs, self.good)


def check_launched(prefect: Prefect1Server, ecs: EcsServer, run_id: str) -> None:
    """A flow run is Submitted and has exactly one task, which its log names."""
    (task,) = [task for task in ecs.tasks() if task["startedBy"] == f"prefect/{run_id}"]
    assert prefect.flow_run(run_id)["state"] == "Submitted"
    assert [line["message"] for line in prefect.logs(run_id)][-1] == f"Submitted for execution: Task {task['taskArn']}"
