"""What `prefect-agent tick --dry-run` shows: whole launch requests, and none of their secrets."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from chalicelib.builders.ecs_launch import EcsLaunch
from chalicelib.cli.preview import REDACTED, render_previews
from chalicelib.flow_runs import Flow, FlowRun, WorkPoolJob
from chalicelib.launchers.platform_launcher import FlowContainer
from chalicelib.outcomes import Answer, Build, Outcome
from chalicelib.settings import load_settings

KEY = "pnu_8Qcanary"
SETTINGS = load_settings({"PREFECT__CLOUD__API_KEY": KEY})
RUN = FlowRun("run-1", "fast-fox", 3, datetime(2026, 1, 1, 12, tzinfo=UTC), Flow("flow-1", "etl"))


def shown(request: Any) -> Any:
    return json.loads(render_previews([Build(RUN, request=request)], SETTINGS))[0]["launch"]


def test_nothing_due_is_an_empty_list() -> None:
    assert json.loads(render_previews([], SETTINGS)) == []


def test_a_launch_request_is_shown_whole() -> None:
    run_task = {
        "cluster": "flows",
        "count": 1,
        "tags": [{"key": "team", "value": "data"}],
        "enableExecuteCommand": False,
    }
    definition = {
        "family": "prefect-1a2b",
        "containerDefinitions": [
            {"name": "flow", "secrets": [{"name": "PREFECT__CLOUD__API_KEY", "valueFrom": "arn:aws:ssm:x"}]}
        ],
    }
    preview = json.loads(render_previews([Build(RUN, request=EcsLaunch(run_task, definition))], SETTINGS))
    assert preview == [
        {
            "flow_run_id": "run-1",
            "name": "fast-fox",
            "start_time": "2026-01-01T12:00:00+00:00",
            "launch": {"run_task": run_task, "definition": definition, "definition_arn": None},
        }
    ]


def test_a_run_without_a_request_shows_its_problem_without_the_key() -> None:
    (preview,) = json.loads(
        render_previews([Build(RUN, refusal=Outcome(RUN, Answer.IMPOSSIBLE, f"no image for {KEY}"))], SETTINGS)
    )
    assert preview["problem"] == f"no image for {REDACTED}"
    assert "launch" not in preview


@pytest.mark.parametrize(
    "name",
    [
        "PREFECT__CLOUD__API_KEY",
        "PREFECT__CLOUD__AUTH_TOKEN",
        "DB_PASSWORD",
        "AWS_SECRET_ACCESS_KEY",
        "SENTRY_DSN",
        "AUTH",
        "GITHUB_PAT",
    ],
)
def test_variables_that_sound_secret_are_redacted(name: str) -> None:
    assert shown({"environment": [{"name": name, "value": "hidden"}]}) == {
        "environment": [{"name": name, "value": REDACTED}]
    }
    assert shown({"env": {name: "hidden"}}) == {"env": {name: REDACTED}}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PREFECT__CLOUD__USE_LOCAL_SECRETS", "false"),
        ("PREFECT__CLOUD__API_KEY", ""),
        ("REGION", "eu"),
        ("AUTHOR", "me"),
        ("PATH", "/bin"),
    ],
)
def test_variables_that_say_nothing_secret_are_shown(name: str, value: str) -> None:
    request = {"environment": [{"name": name, "value": value}]}
    assert shown(request) == request


def test_the_password_of_a_url_is_redacted() -> None:
    request = {"environment": [{"name": "DATABASE", "value": "postgresql://me:hidden@db:5432/flows"}]}
    assert shown(request)["environment"][0]["value"] == f"postgresql://me:{REDACTED}@db:5432/flows"


REQUESTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.text().map(lambda text: text + KEY),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just(f"x{KEY}"), inner) | inner.map(lambda i: (i,)),
    max_leaves=8,
)


@hypothesis.given(REQUESTS)
def test_the_agents_own_key_is_nowhere_in_a_preview(request: Any) -> None:
    assert KEY not in render_previews([Build(RUN, request=request)], SETTINGS)


def test_what_the_agent_was_given_for_all_flow_runs_is_redacted() -> None:
    settings = load_settings({}, {"env_vars": ["COLOUR=hidden"]})
    request = {"environment": [{"name": "COLOUR", "value": "hidden"}], "env": {"COLOUR": "theirs"}}
    (preview,) = json.loads(render_previews([Build(RUN, request=request)], settings))
    assert preview["launch"] == {"environment": [{"name": "COLOUR", "value": REDACTED}], "env": {"COLOUR": "theirs"}}


def test_what_stands_in_a_block_is_redacted_wherever_the_job_has_it_and_a_variable_is_not() -> None:
    references = {
        "prefect.blocks.database.main": {"login": {"password": "pass-canary", "port": 54321}, "user": "pass"},
        "block_document_id:6e3ad6c1-55a2-4a16-8e1a-3c1b6f0c3b52": ["other-canary"],
        "prefect.variables.region": "eu-north-1",
    }
    run = replace(RUN, job=WorkPoolJob({}, {}, references=references))
    request = {"env": {"A": "pass-canary", "R": "eu-north-1"}, "command": ["x", "--to=pass-canary@other-canary:54321"]}
    (preview,) = json.loads(render_previews([Build(run, request=request)], SETTINGS))
    assert preview["launch"] == {
        "env": {"A": REDACTED, "R": "eu-north-1"},
        "command": ["x", f"--to={REDACTED}@{REDACTED}:{REDACTED}"],
    }


def test_the_flow_run_itself_is_no_part_of_the_request() -> None:
    request = FlowContainer(RUN, "flows:1", ["prefect"], {"A": "b"})
    assert shown(request) == {"image": "flows:1", "command": ["prefect"], "environment": {"A": "b"}}
