"""`Prefect1Server`: the double as tests, demo and bench hold it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any

from tests.doubles.prefect1.backend import Backend, Call
from tests.doubles.prefect1.execution import Answer, answer, outline
from tests.doubles.prefect1.faults import Fault, Faults
from tests.doubles.prefect1.filters import ordered
from tests.doubles.prefect1.recording import Request
from tests.doubles.prefect1.registration import create_flow, create_project
from tests.doubles.prefect1.runs import create_flow_run, create_task_run, run_lazarus
from tests.doubles.prefect1.schema import schema
from tests.doubles.prefect1.states import complete_state
from tests.doubles.prefect1.store import Clock, Row, Store, SystemClock
from tests.doubles.prefect1.transitions import cancel_flow_run, move_flow_run, move_task_run
from tests.doubles.prefect1.transport import serve

CLOUD_KEY = "cloud-api-key"
"""The API key of the default tenant when a Cloud double is given none."""


class Prefect1Server:
    """A Prefect 1 API at `url`, a context manager.

    `clock` is its time. `round_trip_seconds` passes before each answer, and `field_seconds` with each root field of a
    mutation, one after the other, and once with a query; `sleep` lets them pass. `tenant` makes the default tenant,
    whose id is `tenant_id`. `cloud` makes it Prefect Cloud: every request needs `Authorization: Bearer` with one of
    `api_keys` or `runner_tokens`, both credential to tenant id, whose tenants are made. `seed` decides ids and the
    order of rows that nobody ordered.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        round_trip_seconds: float = 0.0,
        field_seconds: float = 0.0,
        cloud: bool = False,
        seed: int = 0,
        tenant: bool = True,
        api_keys: Mapping[str, str] | None = None,
        runner_tokens: Mapping[str, str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.round_trip_seconds = round_trip_seconds
        self.sleep = sleep
        self.faults = Faults()
        self.clock: Clock = clock or SystemClock()
        self._requests: list[Request] = []
        store = Store(self.clock, seed)
        self._backend = Backend(store, self.clock, cloud, field_seconds=field_seconds, sleep=sleep)
        self.tenant_id: str = store.insert("tenant", name="Default", slug="default")["id"] if tenant else ""
        self._admit(self._backend.runner_tokens, runner_tokens or {})
        default_keys = {CLOUD_KEY: self.tenant_id} if cloud and tenant else {}
        self._admit(self._backend.api_keys, default_keys if api_keys is None else api_keys)
        schema(cloud)
        self._http = serve(self)
        self.url = self._http.url

    def _admit(self, credentials: dict[str, str], given: Mapping[str, str]) -> None:
        for credential, tenant_id in given.items():
            credentials[credential] = tenant_id
            if not self._backend.store.get("tenant", tenant_id):
                self._backend.store.insert("tenant", id=tenant_id, name=tenant_id, slug=tenant_id)

    def __enter__(self) -> Prefect1Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving and end every connection."""
        self._http.stop()

    # what the transport asks

    def authorized(self, headers: Any) -> bool:
        """Whether a request with these headers may ask anything; on Server every one may."""
        return not self._backend.cloud or self._backend.tenant_of(self._call(headers).credential) is not None

    def record(self, method: str, path: str, headers: Any, payload: dict[str, Any]) -> Request:
        """Remember one operation."""
        query, variables = payload["query"], payload["variables"]
        fields, is_mutation = outline(query, self._backend.cloud)
        request = Request(method, path, headers, query, variables, fields, is_mutation, self.clock.now())
        self._requests.append(request)
        return request

    def fault_for(self, request: Request) -> Fault | None:
        """The fault that this operation meets."""
        return self.faults.take(request)

    def answer(self, request: Request, payload: dict[str, Any]) -> Answer:
        """Execute one operation."""
        call = self._call(request.headers)
        return answer(call, request.query, request.variables, payload.get("operationName"))

    def _call(self, headers: Any) -> Call:
        wanted = {name.lower(): value for name, value in headers.items()}
        return Call(self._backend, wanted)

    # what a test arranges

    def add_flow(
        self,
        name: str = "flow",
        run_config: Mapping[str, Any] | None = None,
        storage: Mapping[str, Any] | None = None,
        environment: Mapping[str, Any] | None = None,
        core_version: str | None = "1.4.1",
        version: int = 1,
        labels: list[str] | None = None,
    ) -> str:
        """A flow in the default tenant, of one task; `labels` are its flow group's. Its id."""
        documents = {"run_config": run_config, "storage": storage, "environment": environment}
        columns = {"name": name, **copy.deepcopy(documents)}
        serialized = {**columns, "__version__": core_version, "tasks": [{"name": "task", "slug": "task-1"}]}
        with self._backend.lock:
            call = self._local_call()
            wanted = {"project_id": self._project_id(), "version_group_id": call.store.new_id()}
            flow = self._backend.store.tables["flow"][
                create_flow(call, {**wanted, "serialized_flow": serialized})["id"]
            ]
            call.store.update(flow, version=version)
            call.store.update(call.store.tables["flow_group"][flow["flow_group_id"]], labels=labels)
        return str(flow["id"])

    def add_flow_run(
        self,
        flow_id: str | None = None,
        run_config: Mapping[str, Any] | None = None,
        labels: list[str] | None = None,
        start_time: datetime | None = None,
        name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> str:
        """A flow run, Scheduled for `start_time` (now), or in `state` after that; of a flow of its own when None."""
        wanted = {"run_config": run_config, "labels": labels, "scheduled_start_time": start_time}
        names = {"flow_id": flow_id or self.add_flow(), "flow_run_name": name, "parameters": parameters}
        with self._backend.lock:
            run_id = create_flow_run(self._local_call(), copy.deepcopy({**wanted, **names}))["id"]
            if state:
                self.set_state(run_id, state)
        return str(run_id)

    def add_task_run(self, flow_run_id: str, state: Mapping[str, Any] | None = None) -> str:
        """One more task run of a flow run, Pending or in `state`."""
        with self._backend.lock:
            call = self._local_call()
            run = self._row("flow_run", flow_run_id)
            slug = f"task-{len(call.store.owned('task', 'flow_id', run['flow_id'])) + 1}"
            task = call.store.insert("task", flow_id=run["flow_id"], tenant_id=run["tenant_id"], name=slug, slug=slug)
            task_run = create_task_run(call, run, task)
            if state:
                self.set_task_state(task_run["id"], state)
        return str(task_run["id"])

    def set_state(self, flow_run_id: str, state: Mapping[str, Any]) -> None:
        """Give a flow run a state, as somebody else: no lock is taken and no agent recorded."""
        with self._backend.lock:
            document = complete_state(dict(state), self.clock.now())
            move_flow_run(self._backend, self._row("flow_run", flow_run_id), document)

    def set_task_state(self, task_run_id: str, state: Mapping[str, Any]) -> None:
        """Give a task run a state, as somebody else."""
        with self._backend.lock:
            document = complete_state(dict(state), self.clock.now())
            move_task_run(self._backend, self._row("task_run", task_run_id), document)

    def cancel(self, flow_run_id: str) -> None:
        """Cancel a flow run as a user would."""
        with self._backend.lock:
            cancel_flow_run(self._local_call(), flow_run_id)

    def delete_flow_run(self, flow_run_id: str) -> None:
        """Delete a flow run with its task runs, states and logs."""
        with self._backend.lock:
            self._backend.store.delete("flow_run", flow_run_id)

    def run_lazarus(self) -> int:
        """Let the server revive what went silent; how many flow runs were rescheduled."""
        with self._backend.lock:
            return run_lazarus(self._backend)

    # what a test looks at

    @property
    def requests(self) -> list[Request]:
        """The operations that reached the server, in order."""
        return list(self._requests)

    def forget_requests(self) -> None:
        """Begin the list of operations anew."""
        self._requests.clear()

    def flow_run(self, flow_run_id: str) -> Row:
        """A copy of the row; times are datetimes. Raises KeyError."""
        return self._copy("flow_run", flow_run_id)

    def task_run(self, task_run_id: str) -> Row:
        """A copy of the row; times are datetimes. Raises KeyError."""
        return self._copy("task_run", task_run_id)

    def flow(self, flow_id: str) -> Row:
        """A copy of the row. Raises KeyError."""
        return self._copy("flow", flow_id)

    def states(self, run_id: str) -> list[Row]:
        """The history of a flow run or task run, oldest first."""
        kind = "flow_run" if run_id in self._backend.store.tables["flow_run"] else "task_run"
        return self._owned(f"{kind}_state", f"{kind}_id", run_id, "version")

    def logs(self, flow_run_id: str) -> list[Row]:
        """The logs of a flow run, oldest first."""
        return self._owned("log", "flow_run_id", flow_run_id, "timestamp")

    def runs_with_logs(self) -> set[str]:
        """The ids of the flow runs that have a log, found without a copy of it."""
        with self._backend.lock:
            return {row["flow_run_id"] for row in self._backend.store.rows("log")}

    def agents(self) -> list[Row]:
        """All agents, oldest first."""
        with self._backend.lock:
            return copy.deepcopy(self._backend.store.rows("agent"))

    def _owned(self, table: str, column: str, owner_id: str, order: str) -> list[Row]:
        with self._backend.lock:
            return copy.deepcopy(ordered(self._backend.store.owned(table, column, owner_id), [{order: "asc"}]))

    def _copy(self, table: str, row_id: str) -> Row:
        with self._backend.lock:
            return copy.deepcopy(self._row(table, row_id))

    def _row(self, table: str, row_id: str) -> Row:
        return self._backend.store.tables[table][row_id]

    def _local_call(self) -> Call:
        return Call(self._backend)

    def _project_id(self) -> str:
        projects = self._backend.store.owned("project", "tenant_id", self.tenant_id)
        wanted = {"tenant_id": self.tenant_id, "name": "double"}
        return str(projects[0]["id"] if projects else create_project(self._local_call(), wanted)["id"])
