"""Agents and the queue they poll, fact by fact."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.doubles.prefect1 import Prefect1Server
from tests.unit.prefect1_double.asking import POLL, REGISTER, Asker, TurnedClock


def test_an_agent_is_registered_once_for_each_identity(ask: Asker, server: Prefect1Server) -> None:
    def register(core_version: str | None = "1.4.1", **wanted: Any) -> Any:
        headers = {"X-PREFECT-CORE-VERSION": core_version} if core_version else {}
        agent = {"type": "ECSAgent", "name": "a", "labels": ["x", "b"], "tenant_id": server.tenant_id, **wanted}
        return ask.data(REGISTER, headers, i=agent)["register_agent"]["id"]

    first = register()

    assert register(labels=["b", "x"]) == first
    assert register(core_version=None) == first
    assert register(name=None) == first
    assert len({first, register("1.4.0"), register(labels=None), register(type="LocalAgent")}) == 4
    assert ask.refusal(REGISTER, i={"type": "ECSAgent"}) == "No tenant found."
    assert ask.refusal(REGISTER, i={"type": "New", "tenant_id": first}) == "Foreign key violation."


def test_the_queue_answers_the_oldest_runs_whose_labels_the_agent_has(ask: Asker, server: Prefect1Server) -> None:
    flow = server.add_flow()
    runs = {labels: server.add_flow_run(flow, labels=list(labels)) for labels in ((), ("a",), ("a", "b"), ("c",))}
    later = server.add_flow_run(flow, start_time=server.clock.now() + timedelta(seconds=1))

    assert ask.poll() == [runs[()]]
    assert set(ask.poll("a", "b")) == {runs[("a",)], runs[("a", "b")]}
    assert later not in ask.poll()
    assert ask.data(POLL, i={"tenant_id": flow})["get_runs_in_queue"] == {"flow_run_ids": []}


def test_the_queue_is_25_of_the_75_oldest_and_foreign_runs_hide_yours(
    ask: Asker, server: Prefect1Server, clock: TurnedClock
) -> None:
    flow = server.add_flow()
    mine = []
    for _ in range(30):
        clock.turn(1)
        mine.append(server.add_flow_run(flow, labels=["mine"]))

    assert ask.poll("mine") == mine[:25]
    early = clock.now() - timedelta(hours=1)
    for _ in range(75):
        server.add_flow_run(flow, labels=["foreign"], start_time=early)
    assert ask.poll("mine") == []


def test_a_due_retry_of_a_running_run_is_last_in_the_queue(
    ask: Asker, server: Prefect1Server, clock: TurnedClock
) -> None:
    retrying, scheduled = server.add_flow_run(), server.add_flow_run()
    server.set_state(retrying, {"type": "Running"})
    server.add_task_run(retrying, {"type": "Retrying"})

    assert ask.poll() == [scheduled, retrying]


def test_polling_is_the_agents_heartbeat(ask: Asker, server: Prefect1Server, clock: TurnedClock) -> None:
    agent = {"type": "ECSAgent", "tenant_id": server.tenant_id}
    agent_id = ask.data(REGISTER, i=agent)["register_agent"]["id"]

    ask.poll(headers={"x-prefect-agent-id": agent_id})

    assert server.agents()[0]["last_queried"] == clock.now()
    wanted = {"tenant_id": server.tenant_id}
    assert "uuid" in ask.refusal(POLL, {"X-PREFECT-AGENT-ID": "zzz"}, i=wanted)
    ask.data("mutation($a:UUID!){delete_agent(input:{agent_id:$a}){success}}", a=agent_id)
    assert ask.poll(headers={"x-prefect-agent-id": agent_id}) == []
