"""HTTP and the three tiers of errors, fact by fact."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from tests.doubles.prefect1 import Prefect1Server
from tests.unit.prefect1_double.asking import POLL, WRITE_LOGS, Asker


@pytest.mark.parametrize("path", ["", "/", "/graphql", "/graphql/alpha", "/any/path"])
@pytest.mark.parametrize("variables", [{}, None, "null", "{}"])
def test_any_path_and_every_form_of_variables_is_served(server: Prefect1Server, path: str, variables: Any) -> None:
    answer = requests.post(server.url + path, json={"query": "{hello}", "variables": variables}, timeout=10)

    assert (answer.status_code, answer.json()) == (200, {"data": {"hello": "👋"}})


@pytest.mark.parametrize(
    ("body", "content_type", "status", "text"),
    [
        ('{"query":"{hello}"}', "text/plain", 500, "POST body missing."),
        ('{"query":"{hello}"}', None, 500, "POST body missing."),
        ("{}", "application/json", 500, "POST body missing."),
        ('{"query":""}', "application/json", 400, "Must provide query string."),
        ("{bad", "application/json", 400, "<!DOCTYPE html>"),
        (" " * (5 * 1024 * 1024 + 1), "application/json", 413, "<!DOCTYPE html>"),
    ],
)
def test_a_body_that_is_no_operation_is_refused_in_text(
    server: Prefect1Server, body: str, content_type: str | None, status: int, text: str
) -> None:
    answer = requests.post(server.url, data=body.encode(), headers={"content-type": content_type}, timeout=10)

    assert (answer.status_code, text in answer.text) == (status, True)


def test_batches_get_queries_and_the_health_page(server: Prefect1Server) -> None:
    batch = requests.post(server.url, json=[{"query": "{hello}"}, {"query": "{api{backend mode}}"}], timeout=10)
    got = requests.get(server.url, params={"query": "{hello}"}, timeout=10)
    empty = requests.get(server.url, timeout=10)
    health = requests.get(f"{server.url}/.well-known/apollo/server-health", timeout=10)

    assert [each["data"] for each in batch.json()] == [
        {"hello": "👋"},
        {"api": {"backend": "SERVER", "mode": "normal"}},
    ]
    assert got.json()["data"] == {"hello": "👋"}
    assert (empty.status_code, empty.text) == (400, "GET query missing.")
    assert health.json() == {"status": "pass"}


@pytest.mark.parametrize(
    ("query", "variables", "code", "text"),
    [
        ("{", {}, "GRAPHQL_PARSE_FAILED", "Syntax Error"),
        ("{auth_info{tenant_id}}", {}, "GRAPHQL_VALIDATION_FAILED", 'Cannot query field "auth_info"'),
        ("query($x:Int){hello}", {}, "GRAPHQL_VALIDATION_FAILED", 'Variable "$x" is never used'),
        (
            "query($i:UUID!){flow_run_by_pk(id:$i){id}}",
            {"i": "x"},
            "GRAPHQL_VALIDATION_FAILED",
            'expecting type "uuid!"',
        ),
        (
            "{flow_run{flow{flow_runs{flow{flow_runs{flow{flow_runs{flow{id}}}}}}}}}",
            {},
            "GRAPHQL_VALIDATION_FAILED",
            "''",
        ),
        (POLL, {"i": {}}, "INTERNAL_SERVER_ERROR", "tenant_id"),
        (POLL, {"i": {"tenant_id": "x", "nope": 1}}, "INTERNAL_SERVER_ERROR", "nope"),
        (POLL, {"i": None}, "INTERNAL_SERVER_ERROR", "$i"),
        (WRITE_LOGS, {"l": [{"flow_run_id": "x", "level": "info"}]}, "INTERNAL_SERVER_ERROR", "log_level"),
    ],
)
def test_what_the_gateway_refuses_is_a_400_without_data(
    ask: Asker, query: str, variables: dict[str, Any], code: str, text: str
) -> None:
    answer = ask.post(query, **variables)

    (error, *_) = answer.json()["errors"]
    assert (answer.status_code, error["extensions"]["code"], "data" in answer.json()) == (400, code, False)
    assert text in error["message"]


def test_a_refused_alias_is_null_and_the_others_are_applied(ask: Asker, server: Prefect1Server) -> None:
    run = server.add_flow_run()
    fields = (
        f"{alias}:set_flow_run_states(input:{{states:[{{flow_run_id:$r,state:$s}}]}}){{states{{status}}}}"
        for alias in "ab"
    )

    answer = ask.post(f"mutation($r:UUID!,$s:JSON!){{{' '.join(fields)}}}", r=run, s={"type": "Submitted"})

    (error,) = answer.json()["errors"]
    assert answer.json()["data"] == {"a": {"states": [{"status": "SUCCESS"}]}, "b": None}
    assert (error["path"], error["extensions"]["code"]) == (["b"], "INTERNAL_SERVER_ERROR")
    assert error["message"] == error["extensions"]["exception"]["message"]


def test_a_refused_table_takes_the_whole_answer_with_it(ask: Asker) -> None:
    answer = ask.post('{hello flow_run(where:{id:{_eq:"zzz"}}){id}}')

    assert (answer.status_code, answer.json()["data"]) == (200, None)
    assert answer.json()["errors"][0]["message"] == 'invalid input syntax for type uuid: "zzz"'


@pytest.mark.parametrize(
    ("literal", "refusal"),
    [
        ('{type:"Failed"}', "'ObjectValueNode' object has no attribute 'value'"),
        ('"\\"Failed\\""', "{'_schema': 'Invalid data type: Failed'}"),
        ('"{\\"type\\":\\"Nope\\"}"', "{'type': ['Unsupported value: Nope']}"),
    ],
)
def test_documents_that_stand_in_the_query_are_refused_while_running(
    ask: Asker, server: Prefect1Server, literal: str, refusal: str
) -> None:
    states = f'[{{flow_run_id:"{server.add_flow_run()}",state:{literal}}}]'

    assert ask.refusal(f"mutation{{set_flow_run_states(input:{{states:{states}}}){{states{{id}}}}}}") == refusal


def test_malformed_ids_and_times_are_refused_while_running(ask: Asker, server: Prefect1Server) -> None:
    assert ask.refusal(POLL, i={"tenant_id": "zzz"}) == "Could not parse UUID: zzz"
    assert "soon" in ask.refusal(POLL, i={"tenant_id": server.tenant_id, "before": "soon"})
    assert ask.refusal(POLL, i={"tenant_id": server.tenant_id, "labels": None}).startswith("'NoneType'")
