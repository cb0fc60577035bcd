"""Table queries, fact by fact, and the rules that hold for all values."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.doubles.prefect1 import Prefect1Server
from tests.doubles.prefect1.filters import compile_filter, contains
from tests.doubles.prefect1.scalars import as_jsonb, format_time
from tests.doubles.prefect1.store import Store, SystemClock, parse_time
from tests.unit.prefect1_double.asking import WRITE_LOGS, Asker


def test_a_null_operand_is_no_condition(ask: Asker, server: Prefect1Server) -> None:
    runs = {server.add_flow_run() for _ in range(3)}

    found = ask.data("query($i:uuid){flow_run(where:{id:{_eq:$i}}){id}}", i=None)["flow_run"]

    assert {run["id"] for run in found} == runs


def test_the_agents_metadata_query_finds_scheduled_runs_and_due_retries(ask: Asker, server: Prefect1Server) -> None:
    scheduled, paused, retrying, running = (server.add_flow_run() for _ in range(4))
    server.set_state(paused, {"type": "Paused"})
    server.set_state(running, {"type": "Running"})
    server.set_state(retrying, {"type": "Running"})
    task_run = server.add_task_run(retrying, {"type": "Retrying", "start_time": "2026-11-20T19:59:00+00:00"})
    query = """query($t:timestamptz!){flow_run(where:{_or:[{state:{_eq:"Scheduled"}},
        {state:{_eq:"Running"}, task_runs:{state_start_time:{_lte:$t}}}]})
        {id flow{id core_version} task_runs(where:{state_start_time:{_lte:$t}}){id version}}}"""

    found = {run["id"]: run for run in ask.data(query, t="2026-11-20T20:00:00+00:00")["flow_run"]}

    assert set(found) == {scheduled, retrying}
    assert found[retrying]["task_runs"] == [{"id": task_run, "version": 1}]
    assert found[scheduled]["flow"]["core_version"] == "1.4.1"


def test_a_claim_is_found_by_its_context_with_the_last_of_its_logs(ask: Asker, server: Prefect1Server) -> None:
    run, other = server.add_flow_run(), server.add_flow_run()
    server.set_state(run, {"type": "Submitted", "context": {"agent": "a", "key": "1"}})
    server.set_state(other, {"type": "Submitted", "context": {"agent": "b"}})
    logs = [
        {
            "flow_run_id": run,
            "message": f"Submitted for execution: {n}",
            "timestamp": f"2026-11-20T20:0{n}:00Z",
            "info": {"n": n},
        }
        for n in (1, 3, 2)
    ]
    ask.data(WRITE_LOGS, l=logs)
    query = """query($c:jsonb!){flow_run(where:{state:{_eq:"Submitted"}, serialized_state:{_contains:$c}})
        {id logs(where:{message:{_like:"Submitted for execution: %"}}, order_by:{timestamp:desc}, limit:1)
         {info timestamp} states(order_by:{version:asc}){state version}}}"""

    (found,) = ask.data(query, c={"context": {"agent": "a"}})["flow_run"]

    assert found["id"] == run
    assert found["logs"] == [{"info": {"n": 3}, "timestamp": "2026-11-20T20:03:00+00:00"}]
    assert [state["state"] for state in found["states"]] == ["Scheduled", "Submitted"]


def test_a_missing_row_is_null_and_unordered_rows_move(ask: Asker, server: Prefect1Server) -> None:
    runs = [server.add_flow_run() for _ in range(8)]
    orders = {tuple(run["id"] for run in ask.data("{flow_run{id}}")["flow_run"]) for _ in range(5)}
    by_creation = ask.data("{flow_run(order_by:{name:asc}, offset:1, limit:2){id}}")["flow_run"]

    assert ask.data("query($i:uuid!){flow_run_by_pk(id:$i){id}}", i=server.tenant_id) == {"flow_run_by_pk": None}
    assert len(orders) > 1
    assert [run["id"] for run in by_creation] == runs[1:3]


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(DOCUMENTS)
def test_every_document_contains_itself_and_jsonb_changes_only_its_order(document: Any) -> None:
    assert contains(document, document)
    assert as_jsonb(document) == document
    assert json.dumps(as_jsonb(as_jsonb(document))) == json.dumps(as_jsonb(document))


@given(st.datetimes(min_value=datetime(2000, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis adds the zone
def test_a_written_time_reads_back_the_same(moment: datetime) -> None:
    assert parse_time(format_time(moment)) == moment


@given(st.sampled_from([None, "a", "b"]), st.sampled_from(["_eq", "_neq", "_lt", "_like"]), st.sampled_from(["a", "b"]))
def test_a_null_column_matches_neither_a_condition_nor_its_opposite(value: Any, operator: str, operand: str) -> None:
    store = Store(SystemClock(), 0)
    condition = {"name": {operator: operand}}
    row = {"name": value}

    answers = [compile_filter(store, "log", where)(row) for where in (condition, {"_not": condition})]

    assert answers == [None, None] if value is None else set(answers) == {True, False}
