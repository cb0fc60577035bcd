"""The variables of a flow-run container."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.builders.flow_container import KEY_VARIABLES, SEND_LOGS, ContainerSettings, container_environment
from chalicelib.flow_runs import Flow, FlowRun

RUN = FlowRun("run-1", "owl", 3, datetime(2026, 1, 1, tzinfo=UTC), Flow("flow-1", "etl"), tenant_id="tenant-1")
SERVER = ContainerSettings(api_url="http://prefect:4200", labels=("ecs", "prod"))
CLOUD = replace(SERVER, backend="cloud", api_key="pcu_plain")
BY_REFERENCE = replace(CLOUD, api_key="", secret_reference="arn:aws:secretsmanager:eu-west-1:1:secret:key")
ENVIRONMENTS = st.dictionaries(
    st.sampled_from(["A", "PREFECT__BACKEND", SEND_LOGS, *KEY_VARIABLES]), st.text(max_size=5)
)


def test_a_container_on_server_gets_exactly_these_variables() -> None:
    assert container_environment(RUN, SERVER, {}) == {
        "PREFECT__BACKEND": "server",
        "PREFECT__CLOUD__AGENT__LABELS": "['ecs', 'prod']",
        "PREFECT__CLOUD__API": "http://prefect:4200",
        "PREFECT__CLOUD__API_KEY": "",
        "PREFECT__CLOUD__AUTH_TOKEN": "",
        "PREFECT__CLOUD__SEND_FLOW_RUN_LOGS": "true",
        "PREFECT__CLOUD__TENANT_ID": "",
        "PREFECT__CLOUD__USE_LOCAL_SECRETS": "false",
        "PREFECT__CONTEXT__FLOW_ID": "flow-1",
        "PREFECT__CONTEXT__FLOW_RUN_ID": "run-1",
        "PREFECT__ENGINE__FLOW_RUNNER__DEFAULT_CLASS": "prefect.engine.cloud.CloudFlowRunner",
        "PREFECT__LOGGING__LEVEL": "INFO",
        "PREFECT__LOGGING__LOG_TO_CLOUD": "true",
    }


def test_a_key_comes_with_the_tenant_of_the_run_and_under_its_older_name_too() -> None:
    env = container_environment(RUN, CLOUD, {})
    assert [env[name] for name in KEY_VARIABLES] == ["pcu_plain", "pcu_plain"]
    assert env["PREFECT__CLOUD__TENANT_ID"] == "tenant-1"


def test_an_older_runner_token_goes_under_its_own_name_without_a_tenant() -> None:
    env = container_environment(RUN, replace(SERVER, auth_token="runner"), {})
    assert (env["PREFECT__CLOUD__API_KEY"], env["PREFECT__CLOUD__AUTH_TOKEN"]) == ("", "runner")
    assert env["PREFECT__CLOUD__TENANT_ID"] == ""


@given(ENVIRONMENTS, ENVIRONMENTS)
def test_a_secret_reference_leaves_both_key_variables_out_whoever_sets_them(
    agent_env: dict[str, str], run_env: dict[str, str]
) -> None:
    env = container_environment(RUN, replace(BY_REFERENCE, env_vars=agent_env, api_key="pcu_plain"), run_env)
    assert not env.keys() & set(KEY_VARIABLES)
    assert env["PREFECT__CLOUD__TENANT_ID"] == "tenant-1"


@given(ENVIRONMENTS, ENVIRONMENTS)
def test_the_run_wins_over_the_agent_and_what_a_flow_run_needs_over_both(
    agent_env: dict[str, str], run_env: dict[str, str]
) -> None:
    env = container_environment(RUN, replace(CLOUD, env_vars=agent_env), run_env)
    assert env.get("A") == {**agent_env, **run_env}.get("A")
    assert env["PREFECT__BACKEND"] == "cloud"
    assert {env[name] for name in KEY_VARIABLES} == {"pcu_plain"}
    assert list(env) == sorted(env)


@pytest.mark.parametrize(
    ("agent_sends", "run_says", "sent"),
    [
        (True, None, "true"),
        (True, "false", "false"),
        (False, None, "false"),
        (False, "true", "false"),
    ],
)
def test_a_run_may_turn_its_logs_off_but_not_on(agent_sends: bool, run_says: str | None, sent: str) -> None:
    run_env = {} if run_says is None else {SEND_LOGS: run_says}
    assert container_environment(RUN, replace(SERVER, send_logs=agent_sends), run_env)[SEND_LOGS] == sent


def test_the_log_level_may_be_set_by_the_run() -> None:
    level = "PREFECT__LOGGING__LEVEL"
    assert container_environment(RUN, replace(SERVER, log_level="ERROR"), {})[level] == "ERROR"
    assert container_environment(RUN, SERVER, {level: "DEBUG"})[level] == "DEBUG"


def test_credentials_are_not_in_the_representation_of_the_settings() -> None:
    assert "pcu_plain" not in repr(replace(CLOUD, auth_token="pcu_plain"))
