"""A real Prefect 3 server in a process of its own, and what the tests ask it to do."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import requests

from tests.prefect3 import postgres

PYTHON = postgres.PYTHON
"""Where the real Prefect 3 is installed; `make check` does that."""

START_PATIENCE_SECONDS = 90.0
CREATED_AT_ONCE = 100
"""The most that a server takes in one request."""
LOCKED_PATIENCE_ATTEMPTS = 8
"""A server on SQLite answers 503 while its database is locked."""

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED": "false",
}
"""Nothing that calls out, and no service that a flow run's life does not depend on."""

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


class Prefect3Server:
    """Runs from `with` to its end. `url` ends in `/api`; `variables` are further settings of the server's.

    Its database is a PostgreSQL of its own if it `is_on_postgres`, else SQLite; PREFECT3_POSTGRES decides where nobody
    says so.
    """

    app = "prefect.server.api.server:create_app"
    """What makes the ASGI application, in the environment of PYTHON."""

    def __init__(
        self, auth_string: str = "", variables: Mapping[str, str] | None = None, is_on_postgres: bool | None = None
    ) -> None:
        self.auth_string = auth_string
        self._variables = dict(variables or {})
        if auth_string:
            self._variables["PREFECT_SERVER_API_AUTH_STRING"] = auth_string
        self.is_on_postgres = bool(os.environ.get("PREFECT3_POSTGRES")) if is_on_postgres is None else is_on_postgres
        self.url = ""
        self._home = Path()
        self._session = requests.Session()
        self._csrf: dict[str, str] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._home = Path(tempfile.mkdtemp(prefix="prefect3-"))
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self._home, ignore_errors=True)
            database = f"sqlite+aiosqlite:///{self._home / 'prefect.db'}"
            if self.is_on_postgres:
                database = stack.enter_context(postgres.Postgres(self._home / "postgres")).url
            stack.callback(self._session.close)
            process = self._start(self._environment(database))
            stack.callback(_end, process)
            self._wait_until_ready(process)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def log(self) -> str:
        """What the server has printed."""
        return (self._home / "server.log").read_text(errors="replace")

    @property
    def home(self) -> Path:
        """A directory of its own, gone with the server; good as a PREFECT_HOME."""
        return self._home

    def client_environment(self) -> dict[str, str]:
        """What a real client, worker or flow run needs in its environment to speak to this server and to no other."""
        auth = {"PREFECT_API_AUTH_STRING": self.auth_string} if self.auth_string else {}
        own = {"PREFECT_API_URL": self.url, "PREFECT_HOME": str(self._home / "client"), **auth}
        return {**_foreign_environment(), **own, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}

    def _start(self, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        options = ["--fd", str(listener.fileno()), "--log-level", "error", "--lifespan", "on"]
        with listener, (self._home / "server.log").open("wb") as log:
            return subprocess.Popen(
                [str(PYTHON), "-m", "uvicorn", "--factory", self.app, *options],
                env=environment,
                cwd=self._home,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[listener.fileno()],
            )

    def _environment(self, database: str) -> dict[str, str]:
        own = {"PREFECT_HOME": str(self._home), "PREFECT_SERVER_DATABASE_CONNECTION_URL": database}
        return {**_foreign_environment(), **QUIET, **own, **self._variables}

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        give_up = time.monotonic() + START_PATIENCE_SECONDS
        while time.monotonic() < give_up and process.poll() is None:
            try:
                if requests.get(f"{self.url}/health", timeout=2).ok:
                    return
            except requests.RequestException:
                time.sleep(0.1)
        raise RuntimeError(f"Prefect's server did not start: {self.log[-2000:]}")

    # Speaking to it

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of one answer, None where there is none; a refusal raises requests.HTTPError."""
        for attempt in range(LOCKED_PATIENCE_ATTEMPTS):
            answer = self._session.request(
                method, self.url + path, json=body, headers=self._csrf, auth=self._login, timeout=30
            )
            if answer.status_code == 403 and "CSRF token" in answer.text:
                self._fetch_csrf_token()
            elif answer.status_code == 503:
                time.sleep(0.1 * (attempt + 1))
            else:
                break
        if not answer.ok:
            raise requests.HTTPError(f"{method} {path}: {answer.status_code} {answer.text[:500]}", response=answer)
        return answer.json() if answer.content else None

    @property
    def _login(self) -> tuple[str, str] | None:
        name, _, password = self.auth_string.partition(":")
        return (name, password) if self.auth_string else None

    def _fetch_csrf_token(self) -> None:
        client = str(uuid4())
        token = self.request("GET", f"/csrf-token?client={client}")["token"]
        self._csrf = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}

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
        path, run_ids = f"/deployments/{deployment_id}/create_flow_run/bulk", []
        for begin in range(0, count, CREATED_AT_ONCE):
            bodies = [{"state": state}] * min(CREATED_AT_ONCE, count - begin)
            run_ids += [str(result["flow_run_id"]) for result in self.request("POST", path, bodies)["results"]]
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


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def _foreign_environment() -> dict[str, str]:
    """This process's environment without any setting of Prefect's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}


def _from_now(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
