"""Runs, their states and their logs, fact by fact."""

from __future__ import annotations

from typing import Any

from tests.doubles.prefect1 import Prefect1Server
from tests.unit.prefect1_double.asking import REGISTER, SET_STATE, WRITE_LOGS, Asker, TurnedClock


def test_submitted_is_locked_for_30_seconds_whatever_happens(
    ask: Asker, server: Prefect1Server, clock: TurnedClock
) -> None:
    run = server.add_flow_run()
    ask.set_state(run, "Submitted")
    ask.set_state(run, "Scheduled")
    clock.turn(29)
    locked = "State update failed: this run has already been submitted."
    assert ask.refusal(SET_STATE, s={"type": "Submitted"}, r=run) == locked
    clock.turn(2)

    assert ask.set_state(run, "Submitted")["set_flow_run_states"]["states"] == [{"id": run, "status": "SUCCESS"}]
    assert server.flow_run(run)["version"] == 4


def test_the_lock_is_taken_before_a_write_that_fails(ask: Asker, server: Prefect1Server) -> None:
    run = server.add_flow_run()

    assert "Unicode" in ask.refusal(SET_STATE, s={"type": "Submitted", "message": "a\x00b"}, r=run)
    assert server.flow_run(run)["state"] == "Scheduled"
    assert "already been submitted" in ask.refusal(SET_STATE, s={"type": "Submitted"}, r=run)


def test_submitted_records_the_agent_and_nothing_guards_a_transition(ask: Asker, server: Prefect1Server) -> None:
    agent_id = ask.data(REGISTER, i={"type": "ECSAgent", "tenant_id": server.tenant_id})["register_agent"]["id"]
    run, other = server.add_flow_run(state={"type": "Success"}), server.add_flow_run()

    ask.data(SET_STATE, {"X-Prefect-Agent-Id": agent_id}, s={"type": "Submitted"}, r=run)
    ask.data(SET_STATE, {"X-Prefect-Agent-Id": server.tenant_id}, s={"type": "Submitted"}, r=other)

    assert (server.flow_run(run)["state"], server.flow_run(run)["agent_id"]) == ("Submitted", agent_id)
    assert server.flow_run(run)["heartbeat"] is not None
    assert (server.flow_run(other)["state"], server.flow_run(other)["agent_id"]) == ("Submitted", None)


def test_several_states_in_one_call_are_not_atomic(ask: Asker, server: Prefect1Server) -> None:
    run, unknown = server.add_flow_run(), server.tenant_id
    states = [{"flow_run_id": each, "state": {"type": "Failed"}} for each in (unknown, run)]
    query = "mutation($s:[set_flow_run_state_input!]!){set_flow_run_states(input:{states:$s}){states{id}}}"

    assert ask.refusal(query, s=states) == f"State update failed for flow run ID {unknown}"
    assert server.flow_run(run)["state"] == "Failed"


def test_a_task_run_runs_only_in_a_running_flow_run(ask: Asker, server: Prefect1Server) -> None:
    run = server.add_flow_run()
    task_run = server.add_task_run(run)
    query = (
        "mutation($t:UUID!,$s:JSON!){set_task_run_states(input:{states:[{task_run_id:$t,state:$s}]}){states{status}}}"
    )

    refusal = ask.refusal(query, t=task_run, s={"type": "Running"})
    server.set_state(run, {"type": "Running"})

    assert refusal.endswith(f"but associated flow run {run} is not in a running state.")
    assert ask.data(query, t=task_run, s={"type": "Running"}) == {
        "set_task_run_states": {"states": [{"status": "SUCCESS"}]}
    }


def test_cancelling_takes_the_task_runs_that_wait(ask: Asker, server: Prefect1Server) -> None:
    run = server.add_flow_run()
    waiting, done = server.add_task_run(run), server.add_task_run(run, {"type": "Success"})
    query = "mutation($r:UUID!){cancel_flow_run(input:{flow_run_id:$r}){state}}"

    assert ask.data(query, r=run) == {"cancel_flow_run": {"state": "Cancelled"}}
    assert (server.task_run(waiting)["state"], server.task_run(done)["state"]) == ("Cancelled", "Success")
    assert ask.refusal(query, r=server.tenant_id) == f"Invalid flow run ID: {server.tenant_id}."


def test_one_unknown_run_loses_every_log_of_the_call(ask: Asker, server: Prefect1Server) -> None:
    run = server.add_flow_run()
    logs = [{"flow_run_id": each, "message": "m"} for each in (run, server.tenant_id)]

    assert ask.refusal(WRITE_LOGS, l=logs) == "Foreign key violation."
    assert server.logs(run) == []
    assert ask.data(WRITE_LOGS, l=[])["write_run_logs"] == {"success": True, "error": None}
    ask.data(WRITE_LOGS, l=logs[:1])
    assert [entry["level"] for entry in server.logs(run)] == ["INFO"]


def test_a_run_is_created_once_for_a_key_with_labels_from_the_nearest_source(
    ask: Asker, server: Prefect1Server
) -> None:
    flow = server.add_flow(run_config={"type": "ECSRun", "labels": ["flow"]})
    query = "mutation($i:create_flow_run_input!){create_flow_run(input:$i){id}}"

    def create(**wanted: Any) -> str:
        run_id: str = ask.data(query, i={"flow_id": flow, **wanted})["create_flow_run"]["id"]
        return run_id

    assert create(idempotency_key="k") == create(idempotency_key="k") != create(idempotency_key="other")
    assert server.flow_run(create())["labels"] == ["flow"]
    assert server.flow_run(create(labels=["b", "a"]))["labels"] == ["a", "b"]
    assert server.flow_run(create(labels=["b"]))["run_config"]["labels"] == ["flow"]
    assert server.flow_run(create(run_config={"type": "DockerRun"}))["labels"] == []


def test_heartbeats_succeed_for_unknown_runs_and_keep_lazarus_away(
    ask: Asker, server: Prefect1Server, clock: TurnedClock
) -> None:
    silent, alive = server.add_flow_run(), server.add_flow_run()
    for run in (silent, alive):
        ask.set_state(run, "Submitted")
    clock.turn(601)
    beat = "mutation($r:UUID!){update_flow_run_heartbeat(input:{flow_run_id:$r}){success}}"
    for run in (alive, server.tenant_id):
        assert ask.data(beat, r=run) == {"update_flow_run_heartbeat": {"success": True}}

    assert server.run_lazarus() == 1
    assert (server.flow_run(silent)["state"], server.flow_run(alive)["state"]) == ("Scheduled", "Submitted")
    assert server.flow_run(silent)["state_message"] == "Rescheduled by a Lazarus process."


def test_lazarus_gives_up_after_three_times(server: Prefect1Server, clock: TurnedClock) -> None:
    run = server.add_flow_run()
    seen = []
    for _ in range(4):
        server.set_state(run, {"type": "Submitted"})
        clock.turn(601)
        server.run_lazarus()
        seen.append(server.flow_run(run)["state"])

    assert seen == ["Scheduled"] * 3 + ["Failed"]


def test_flow_group_labels_and_archived_flows_decide_on_new_runs(ask: Asker, server: Prefect1Server) -> None:
    flow = server.add_flow(labels=["group"], run_config={"type": "ECSRun", "labels": ["flow"]}, version=3)
    run = server.add_flow_run(flow)
    query = "mutation($f:UUID!){create_flow_run(input:{flow_id:$f}){id}}"

    assert (server.flow_run(run)["labels"], server.flow(flow)["version"]) == (["group"], 3)
    ask.data("mutation($f:UUID!){archive_flow(input:{flow_id:$f}){success}}", f=flow)
    assert server.flow_run(run)["state"] == "Cancelled"
    assert ask.refusal(query, f=flow) == f"Flow {flow} is archived."


def test_a_deleted_run_takes_everything_with_it(ask: Asker, server: Prefect1Server) -> None:
    run, kept = server.add_flow_run(), server.add_flow_run()
    ask.data(WRITE_LOGS, l=[{"flow_run_id": each, "message": "m"} for each in (run, kept)])
    query = "mutation($r:UUID!){delete_flow_run(input:{flow_run_id:$r}){success}}"

    answers = [ask.data(query, r=run)["delete_flow_run"]["success"] for _ in range(2)]

    assert answers == [True, False]
    left = ask.data("{flow_run{id} task_run{flow_run_id} log{flow_run_id} flow_run_state{flow_run_id}}")
    assert left.pop("flow_run") == [{"id": kept}]
    assert {row["flow_run_id"] for rows in left.values() for row in rows} == {kept}
