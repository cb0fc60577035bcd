"""Asking the Prefect 1 double over plain HTTP, at a time that is turned by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from tests.doubles.prefect1 import Prefect1Server

SET_STATE = (
    "mutation($s:JSON!,$r:UUID!){set_flow_run_states(input:{states:[{flow_run_id:$r,state:$s}]}){states{id status}}}"
)
POLL = "mutation($i:get_runs_in_queue_input!){get_runs_in_queue(input:$i){flow_run_ids}}"
REGISTER = "mutation($i:register_agent_input!){register_agent(input:$i){id}}"
WRITE_LOGS = "mutation($l:[write_run_log_input!]!){write_run_logs(input:{logs:$l}){success error}}"


class TurnedClock:
    def __init__(self) -> None:
        self.time = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def turn(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class Asker:
    """A client of one double that keeps its connection."""

    def __init__(self, server: Prefect1Server) -> None:
        self.server = server
        self.session = requests.Session()

    def post(self, query: str, headers: dict[str, str] | None = None, **variables: Any) -> requests.Response:
        body = {"query": query, "variables": variables}
        return self.session.post(self.server.url, json=body, headers=headers, timeout=10)

    def data(self, query: str, headers: dict[str, str] | None = None, **variables: Any) -> Any:
        answer = self.post(query, headers, **variables).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def refusal(self, query: str, headers: dict[str, str] | None = None, **variables: Any) -> str:
        answer = self.post(query, headers, **variables)
        assert answer.status_code == 200
        return str(answer.json()["errors"][0]["message"])

    def set_state(self, run: str, type_: str, **fields: Any) -> Any:
        return self.data(SET_STATE, s={"type": type_, **fields}, r=run)

    def poll(self, *labels: str, headers: dict[str, str] | None = None) -> list[str]:
        wanted = {"tenant_id": self.server.tenant_id, "labels": labels}
        ids: list[str] = self.data(POLL, headers, i=wanted)["get_runs_in_queue"]["flow_run_ids"]
        return ids
