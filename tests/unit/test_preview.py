"""What `prefect-agent tick --dry-run` shows: whole launch requests, and none of their secrets."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from chalicelib.builders.ecs_launch import EcsLaunch
from chalicelib.cli.preview import REDACTED, render_previews
from chalicelib.flow_runs import Flow, FlowRun
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


@hypothesis.settings(deadline=None)
@hypothesis.given(REQUESTS)
def test_the_agents_own_key_is_nowhere_in_a_preview(request: Any) -> None:
    assert KEY not in render_previews([Build(RUN, request=request)], SETTINGS)
