"""Credentials, recorded requests and ordered faults."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import requests

from tests.doubles.prefect1 import CLOUD_KEY, Prefect1Server
from tests.unit.prefect1_double.asking import SET_STATE, Asker


def test_an_agents_configuration_is_read_by_id(ask: Asker, server: Prefect1Server) -> None:
    create = "mutation($i:create_agent_config_input!){create_agent_config(input:$i){id}}"
    config = ask.data(create, i={"tenant_id": server.tenant_id, "settings": {"a": 1}})["create_agent_config"]["id"]

    found = ask.data("query($i:uuid){agent_config(where:{id:{_eq:$i}}){settings}}", i=config)

    assert found == {"agent_config": [{"settings": {"a": 1}}]}


def test_tenants_have_unique_slugs(ask: Asker) -> None:
    query = "mutation($s:String!){create_tenant(input:{name:$s,slug:$s}){id}}"

    assert ask.refusal(query, s="default") == "Uniqueness violation."
    assert "slugified" in ask.refusal(query, s="Not A Slug")
    assert len(ask.data("{tenant{id}}")["tenant"]) == 1


def test_cloud_wants_a_credential_and_tells_keys_from_runner_tokens() -> None:
    tenant = "6d3f0d0e-3b5a-4f59-8f4e-111111111111"
    query = "{api{backend} auth_info{tenant_id} tenant{id}}"
    with Prefect1Server(cloud=True, runner_tokens={"runner": tenant}) as cloud:
        asker = Asker(cloud)
        refused = [asker.post("{hello}", headers) for headers in ({}, {"Authorization": "Bearer wrong"})]
        key, token = (asker.data(query, {"Authorization": f"Bearer {each}"}) for each in (CLOUD_KEY, "runner"))
        asker.session.close()

    assert {(each.status_code, each.json()["errors"][0]["extensions"]["code"]) for each in refused} == {
        (401, "UNAUTHENTICATED")
    }
    assert (key["auth_info"], key["tenant"]) == ({"tenant_id": cloud.tenant_id}, [{"id": cloud.tenant_id}])
    assert (token["auth_info"], token["tenant"]) == ({"tenant_id": None}, [{"id": tenant}])
    assert key["api"] == {"backend": "CLOUD"}


def test_requests_are_recorded_with_their_root_fields(ask: Asker, server: Prefect1Server) -> None:
    ask.data("query Q($i:uuid!){a:flow_run_by_pk(id:$i){id} hello}", {"X-Mark": "1"}, i=server.tenant_id)

    (request,) = server.requests
    assert [(field.alias, field.name) for field in request.fields] == [("a", "flow_run_by_pk"), ("hello", "hello")]
    assert (request.headers["x-mark"], request.variables, request.is_mutation) == ("1", {"i": server.tenant_id}, False)
    server.forget_requests()
    assert server.requests == []


def test_ordered_answers_replace_the_real_one_as_often_as_said(ask: Asker, server: Prefect1Server) -> None:
    run = server.add_flow_run()
    server.faults.add("status", status=429, headers={"Retry-After": "7"}, times=2)
    server.faults.add("html", when="set_flow_run_states")
    server.faults.add("api_error", when=lambda request: request.is_mutation)

    throttled = [ask.post("{hello}") for _ in range(2)]
    page, away = (ask.post(SET_STATE, s={"type": "Failed"}, r=run) for _ in range(2))

    assert {(each.status_code, each.headers["retry-after"]) for each in throttled} == {(429, "7")}
    assert (page.status_code, page.text[:9]) == (200, "<!DOCTYPE")
    assert (away.status_code, away.json()["data"]) == (200, {"set_flow_run_states": None})
    assert away.json()["errors"][0]["message"] == "Unable to complete operation. An internal API error occurred."
    assert server.flow_run(run)["state"] == "Scheduled"
    assert ask.data("{hello}") == {"hello": "👋"}


@pytest.mark.parametrize(("then", "state"), [("cut_before", "Scheduled"), ("cut_after", "Failed")])
def test_a_connection_is_cut_before_or_after_the_effect(
    ask: Asker, server: Prefect1Server, then: Any, state: str
) -> None:
    run = server.add_flow_run()
    server.faults.add(then, when="set_flow_run_states")

    with pytest.raises(requests.ConnectionError):
        ask.post(SET_STATE, s={"type": "Failed"}, r=run)

    assert server.flow_run(run)["state"] == state
    assert len(server.requests) == 1


@pytest.mark.parametrize(("round_trip", "field", "delay"), [(0.3, 0, 0), (0, 0.3, 0), (0, 0, 0.3)])
def test_a_slow_answer_comes_after_the_clients_patience(round_trip: float, field: float, delay: float) -> None:
    with Prefect1Server(round_trip_seconds=round_trip, field_seconds=field) as server:
        server.faults.add("delay", seconds=delay)
        with pytest.raises(requests.ReadTimeout):
            requests.post(server.url, json={"query": "{hello}"}, timeout=0.05)


def test_nothing_is_left_running_after_the_server() -> None:
    before = threading.active_count()
    with Prefect1Server() as server:
        sessions = [requests.Session() for _ in range(3)]
        for session in sessions:
            session.post(server.url, json={"query": "{hello}"}, timeout=10)
        assert threading.active_count() > before

    assert threading.active_count() == before
    for session in sessions:
        session.close()
