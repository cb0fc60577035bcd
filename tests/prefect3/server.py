"""A real Prefect 3 server, and what the tests ask it to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import requests

from tests.prefect3 import postgres
from tests.prefect3.server_process import ServerProcess

PYTHON = postgres.PYTHON
"""Where the real Prefect 3 is installed; `make check` does that."""

CREATED_AT_ONCE = 100
"""The most that a server takes in one request."""

TEMPLATE: Mapping[str, Any] = {
    "job_configuration": {"command": "{{ command }}", "env": "{{ env }}", "name": "{{ name }}"},
    "variables": {
        "type": "object",
        "properties": {
            "command": {"type": "string"},
            "name": {"type": "string"},
            "env": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    },
}
"""A base job template that every kind of pool may have."""


class Prefect3Server(ServerProcess):
    """A process with a server, as `ServerProcess` tells, to which the tests speak in these words."""

    # What there is to run

    def create_pool(
        self, kind: str = "process", template: Mapping[str, Any] | None = None, name: str = "", **fields: Any
    ) -> str:
        """A work pool of this type; its name, which is unique unless it is given."""
        name = name or f"{kind}-{uuid4().hex[:8]}"
        body = {"name": name, "type": kind, "base_job_template": template or TEMPLATE, **fields}
        self.request("POST", "/work_pools/", body)
        return name

    def update_pool(self, pool: str, **fields: Any) -> None:
        """Change a pool: `is_paused`, `concurrency_limit`, `base_job_template`."""
        self.request("PATCH", f"/work_pools/{pool}", fields)

    def create_queue(self, pool: str, name: str, **fields: Any) -> str:
        """A work queue of a pool; its id."""
        return str(self.request("POST", f"/work_pools/{pool}/queues", {"name": name, **fields})["id"])

    def create_flow(self, name: str = "") -> str:
        """A flow; its id."""
        return str(self.request("POST", "/flows/", {"name": name or f"flow-{uuid4().hex[:8]}"})["id"])

    def create_deployment(self, pool: str, flow_id: str = "", name: str = "", **fields: Any) -> str:
        """A deployment to a pool; its id. `fields`: `job_variables`, `work_queue_name`, `entrypoint`, `path`, ..."""
        body = {
            "name": name or f"deployment-{uuid4().hex[:8]}",
            "flow_id": flow_id or self.create_flow(),
            "work_pool_name": pool,
            "enforce_parameter_schema": False,
            **fields,
        }
        return str(self.request("POST", "/deployments/", body)["id"])

    def delete_deployment(self, deployment_id: str) -> None:
        self.request("DELETE", f"/deployments/{deployment_id}")

    def create_run(
        self,
        deployment_id: str,
        in_seconds: float = -1.0,
        job_variables: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> str:
        """A flow run, scheduled for so many seconds from now; its id."""
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": _from_now(in_seconds)}}
        body = {"state": state, "job_variables": dict(job_variables or {}), **fields}
        return str(self.request("POST", f"/deployments/{deployment_id}/create_flow_run", body)["id"])

    def create_runs(self, deployment_id: str, count: int) -> list[str]:
        """So many flow runs that are due; their ids."""
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": _from_now(-1.0)}}
        path = f"/deployments/{deployment_id}/create_flow_run/bulk"
        run_ids: list[str] = []
        while len(run_ids) < count:
            bodies = [{"state": state}] * min(CREATED_AT_ONCE, count - len(run_ids))
            results = self.request("POST", path, bodies)["results"]
            # Those that a locked database would not take are made once more.
            run_ids += [str(result["flow_run_id"]) for result in results if result["flow_run_id"]]
        return run_ids

    def create_ad_hoc_run(self, pool: str, in_seconds: float = -1.0, **fields: Any) -> str:
        """A flow run without a deployment, in the pool's default queue; its id."""
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": _from_now(in_seconds)}}
        body = {"flow_id": self.create_flow(), "state": state, "work_pool_name": pool, "work_queue_name": "default"}
        return str(self.request("POST", "/flow_runs/", {**body, **fields})["id"])

    def create_block(self, slug: str, name: str, data: Mapping[str, Any], secret_fields: Sequence[str] = ()) -> str:
        """A block document of a type of our own, which is made when it is not there; its id."""
        block_type, schema = self._block_type(slug, list(data), list(secret_fields))
        body = {"name": name, "data": dict(data), "block_type_id": block_type, "block_schema_id": schema}
        return str(self.request("POST", "/block_documents/", body)["id"])

    def _block_type(self, slug: str, names: list[str], secret_fields: list[str]) -> tuple[str, str]:
        try:
            block_type = self.request("GET", f"/block_types/slug/{slug}")["id"]
        except requests.HTTPError:
            block_type = self.request("POST", "/block_types/", {"name": slug, "slug": slug})["id"]
        fields = {
            "title": slug,
            "type": "object",
            "properties": {name: {"title": name} for name in names},
            "secret_fields": secret_fields,
            "block_type_slug": slug,
            "block_schema_references": {},
        }
        schema = self.request("POST", "/block_schemas/", {"block_type_id": block_type, "fields": fields})
        return str(block_type), str(schema["id"])

    def create_variable(self, name: str, value: Any) -> None:
        """A variable; names are of small letters, digits and `_`."""
        self.request("POST", "/variables/", {"name": name, "value": value})

    # How a run stands

    def run(self, run_id: str) -> dict[str, Any]:
        """The flow run, with its `state`."""
        found: dict[str, Any] = self.request("GET", f"/flow_runs/{run_id}")
        return found

    def state(self, run_id: str) -> dict[str, Any]:
        """The present state: `id`, `type`, `name`, `message`, `timestamp`, `state_details`."""
        found: dict[str, Any] = self.run(run_id)["state"]
        return found

    def states(self, run_id: str) -> list[dict[str, Any]]:
        """All states that the run has been in, oldest first."""
        found: list[dict[str, Any]] = self.request("GET", f"/flow_run_states/?flow_run_id={run_id}")
        return sorted(found, key=lambda state: datetime.fromisoformat(state["timestamp"]))

    def set_state(self, run_id: str, kind: str, name: str = "", force: bool = False, **fields: Any) -> dict[str, Any]:
        """Propose a state; the answer with its `status` (ACCEPT, REJECT, ABORT, WAIT) and the `state` that it left."""
        state = {"type": kind, **({"name": name} if name else {}), **fields}
        answer: dict[str, Any] = self.request(
            "POST", f"/flow_runs/{run_id}/set_state", {"state": state, "force": force}
        )
        return answer

    def update_run(self, run_id: str, **fields: Any) -> None:
        """Change a run: `infrastructure_pid`."""
        self.request("PATCH", f"/flow_runs/{run_id}", fields)

    def delete_run(self, run_id: str) -> None:
        self.request("DELETE", f"/flow_runs/{run_id}")

    def logs(self, run_id: str) -> list[str]:
        """The messages of a run's log, oldest first."""
        body = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC"}
        return [str(line["message"]) for line in self.request("POST", "/logs/filter", body)]

    def workers(self, pool: str) -> list[dict[str, Any]]:
        """The workers of a pool: `name`, `status`, `last_heartbeat_time`, `heartbeat_interval_seconds`."""
        found: list[dict[str, Any]] = self.request("POST", f"/work_pools/{pool}/workers/filter", {})
        return found


def _from_now(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
