"""The double, as the real prefect 1.4.1 client and flow runner see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import Prefect1
from tests.doubles.prefect1 import CLOUD_KEY, Prefect1Server
from tests.doubles.prefect1.states import TYPES, complete_state
from tests.doubles.prefect1.store import Refused, SystemClock

pytestmark = pytest.mark.oracle

START = "2026-11-20T20:57:26.296325+02:00"
DOCUMENTS: list[Any] = [
    *({"type": name, "start_time": START} for name in sorted(TYPES)),
    {"type": "Submitted", "message": "Submitted for execution", "state": {"type": "Scheduled", "start_time": START}},
    {"type": "Submitted", "context": {"tags": ["a"], "agent": "b"}, "unknown": 1, "message": None},
    {"type": "Retrying", "start_time": "2026-01-01T00:00:00", "run_count": 3},
    {"type": "Scheduled", "start_time": "2026-01-01T00:00:00Z", "context": None},
    {"type": "Success", "_result": {"type": "PrefectResult", "location": "3", "__version__": "1.4.1"}},
    {"type": "Submitted", "state": {"type": "Nope"}},
    {"type": "Scheduled", "start_time": "soon"},
    {"type": "Failed", "message": 3},
    {"type": "Failed", "context": "x"},
    {"type": "Success", "_result": None},
    {"type": "Nope"},
    {},
    "Failed",
]


def completed(document: Any) -> dict[str, Any]:
    try:
        return {"document": complete_state(document, SystemClock().now())}
    except Refused as refusal:
        return {"refusal": str(refusal)}


def test_states_are_completed_and_refused_as_prefect_does_it(prefect1: Prefect1) -> None:
    answers = json.loads(prefect1.script("complete_states", data=DOCUMENTS))

    assert [completed(document) for document in DOCUMENTS] == answers


def test_the_client_finds_its_tenant_and_registers_an_agent_once(prefect1: Prefect1, server: Prefect1Server) -> None:
    agent = {"agent_type": "ECSAgent", "name": "a", "labels": ["x", "b"]}

    tenant, first, second, hello = prefect1.client(
        ("tenant_id", {}),
        ("register_agent", agent),
        ("register_agent", {**agent, "labels": ["b", "x"]}),
        ("graphql", {"query": "query { hello }"}),
    )

    assert tenant == server.tenant_id
    assert first == second == server.agents()[0]["id"]
    assert server.agents()[0]["core_version"] == "1.4.1"
    assert hello == {"data": {"hello": "👋"}}


def test_without_a_tenant_the_client_says_how_to_make_one(prefect1: Prefect1) -> None:
    with Prefect1Server(tenant=False) as empty:
        prefect1.environment["PREFECT__CLOUD__API"] = empty.url
        before, made, after = prefect1.client(
            ("tenant_id", {}), ("create_tenant", {"name": "My Team"}), ("tenant_id", {})
        )

    assert "prefect server create-tenant" in before
    assert made == after


def test_on_cloud_the_client_takes_its_tenant_from_the_key_and_refuses_runner_tokens(prefect1: Prefect1) -> None:
    with Prefect1Server(cloud=True, runner_tokens={"runner": "6d3f0d0e-3b5a-4f59-8f4e-111111111111"}) as cloud:
        prefect1.environment.update(PREFECT__BACKEND="cloud", PREFECT__CLOUD__API=cloud.url)
        answers = []
        for credential in (CLOUD_KEY, "runner", "wrong"):
            prefect1.environment["PREFECT__CLOUD__API_KEY"] = credential
            answers += prefect1.client(("tenant_id", {}))

    assert answers[0] == cloud.tenant_id
    assert answers[1].startswith("AuthorizationError: An API token was used as an API key.")
    assert answers[2].startswith("HTTPError: 401")


def test_the_client_submits_a_run_once_and_writes_its_log(prefect1: Prefect1, server: Prefect1Server) -> None:
    flow_id = server.add_flow()
    submitted = {"state": {"type": "Submitted", "message": "Submitted for execution"}}
    entry = {"flow_run_id": "$0", "name": "agent", "message": "Submitted for execution: Task x", "level": "INFO"}

    run_id, state, again, info = prefect1.client(
        ("create_flow_run", {"flow_id": flow_id, "labels": ["b", "a"], "parameters": {"n": 1}}),
        ("set_flow_run_state", {"flow_run_id": "$0", "version": 99, "state": submitted}),
        ("set_flow_run_state", {"flow_run_id": "$0", "state": submitted}),
        ("get_flow_run_info", {"flow_run_id": "$0"}),
    )
    prefect1.client(("write_run_logs", {"logs": [{**entry, "flow_run_id": run_id}]}))

    assert server.flow_run(run_id)["labels"] == ["a", "b"]
    assert state["type"] == "Submitted"
    assert "State update failed: this run has already been submitted." in again
    assert info[0] == run_id
    assert [each["message"] for each in server.logs(run_id)] == [entry["message"]]


def test_the_client_cancels_and_learns_what_became_of_it(prefect1: Prefect1, server: Prefect1Server) -> None:
    waiting, running, done = (server.add_flow_run() for _ in range(3))
    server.set_state(running, {"type": "Running"})
    server.set_state(done, {"type": "Success"})

    answers = prefect1.client(*(("cancel_flow_run", {"flow_run_id": each}) for each in (waiting, running, done)))

    assert answers == ["Cancelled", "Cancelling", "Success"]


def register_and_run(prefect1: Prefect1, number: int, home: Path) -> dict[str, str]:
    ids: dict[str, str] = json.loads(prefect1.script("adding_flow", str(home), str(number)))
    prefect1.run(
        *("-m", "prefect", "execute", "flow-run"),
        PREFECT__CONTEXT__FLOW_RUN_ID=ids["run"],
        PREFECT__CONTEXT__FLOW_ID=ids["flow"],
        PREFECT__CLOUD__SEND_FLOW_RUN_LOGS="true",
        PREFECT__CLOUD__CHECK_CANCELLATION_INTERVAL="1",
        PREFECT__ENGINE__FLOW_RUNNER__DEFAULT_CLASS="prefect.engine.cloud.CloudFlowRunner",
    )
    return ids


def test_a_real_flow_run_reaches_success(prefect1: Prefect1, server: Prefect1Server, tmp_path: Path) -> None:
    ids = register_and_run(prefect1, 21, tmp_path)

    run = server.flow_run(ids["run"])
    assert (run["state"], run["state_message"]) == ("Success", "All reference tasks succeeded.")
    assert [state["state"] for state in server.states(ids["run"])] == ["Scheduled", "Running", "Success"]
    assert run["labels"] == ["lab"]
    assert run["heartbeat"] is not None
    assert any("doubling 21" in entry["message"] for entry in server.logs(ids["run"]))


def test_a_real_flow_run_fails_with_its_task(prefect1: Prefect1, server: Prefect1Server, tmp_path: Path) -> None:
    ids = register_and_run(prefect1, 1, tmp_path)

    assert server.flow_run(ids["run"])["state"] == "Failed"


def test_a_second_registration_archives_the_first_version(
    prefect1: Prefect1, server: Prefect1Server, tmp_path: Path
) -> None:
    first, second = (json.loads(prefect1.script("adding_flow", str(tmp_path), "1")) for _ in range(2))

    assert server.flow(first["flow"])["archived"]
    assert (server.flow(second["flow"])["version"], server.flow(second["flow"])["archived"]) == (2, False)
    assert server.flow_run(first["run"])["state"] == "Cancelled"
