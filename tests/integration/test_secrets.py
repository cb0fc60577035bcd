"""The API key: where it is read, who gets it and in which form, and that it is seen nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest

from chalicelib.errors import PrefectUnauthorized, SettingsError
from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import Prefect1Server
from tests.doubles.prefect1.server import CLOUD_KEY
from tests.integration.lambdas import Lambdas
from tests.integration.pairs import GOOD, check_launched

KEY_VARIABLES = ("PREFECT__CLOUD__API_KEY", "PREFECT__CLOUD__AUTH_TOKEN")

Store = Callable[[str], str]
"""Stores a text and answers the ARN of what holds it."""


@pytest.fixture
def prefect() -> Iterator[Prefect1Server]:
    with Prefect1Server(cloud=True) as server:
        yield server


@pytest.fixture
def secrets(environment: None) -> Iterator[Any]:
    client = boto3.client("secretsmanager")
    yield client
    for secret in client.list_secrets()["SecretList"]:
        client.delete_secret(SecretId=secret["ARN"], ForceDeleteWithoutRecovery=True)
    client.close()


@pytest.fixture
def in_secret(secrets: Any) -> Store:
    return lambda text: str(secrets.create_secret(Name="prefect/agent", SecretString=text)["ARN"])


@pytest.fixture
def in_parameter(environment: None) -> Iterator[Store]:
    client = boto3.client("ssm")

    def put(text: str) -> str:
        client.put_parameter(Name="/prefect/agent", Value=text, Type="SecureString", Overwrite=True)
        return str(client.get_parameter(Name="/prefect/agent")["Parameter"]["ARN"])

    yield put
    client.delete_parameters(Names=["/prefect/agent"])
    client.close()


@pytest.fixture
def by_secret(in_secret: Store, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ARN by which the agent is given the right key."""
    reference = in_secret(CLOUD_KEY)
    monkeypatch.setenv("PREFECT__CLOUD__API_KEY", reference)
    return reference


@pytest.fixture
def said(
    lambdas: Lambdas, prefect: Prefect1Server, ecs: EcsServer, capfd: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """All that anybody may read afterwards of the flow run: logs, states, calls, tasks, definitions, health."""

    def collect(run_id: str) -> str:
        told = [prefect.states(run_id), prefect.logs(run_id), lambdas.get("/api/health/details")]
        seen = [*told, ecs.calls, ecs.tasks(), ecs.definitions()]
        return "".join(capfd.readouterr()) + json.dumps(seen, default=str)

    return collect


def add_run(prefect: Prefect1Server, run_config: dict[str, Any] | None = None) -> str:
    return prefect.add_flow_run(labels=["dev"], run_config=run_config or GOOD)


def flow_environment(task: dict[str, Any]) -> dict[str, str]:
    (flow,) = task["overrides"]["containerOverrides"]
    return {entry["name"]: entry["value"] for entry in flow["environment"]}


def register_own(ecs_client: Any, secrets: list[dict[str, str]]) -> str:
    """A definition of the flow's author, as he would register it; its ARN."""
    flow = {"name": "flow", "image": "flows:own", "secrets": secrets}
    answer = ecs_client.register_task_definition(
        family="own",
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        executionRoleArn="arn:aws:iam::123456789012:role/execution",
        containerDefinitions=[flow],
    )
    return str(answer["taskDefinition"]["taskDefinitionArn"])


@pytest.fixture
def own_definition(environment: None) -> Iterator[Callable[[list[dict[str, str]]], str]]:
    client = boto3.client("ecs")
    yield lambda secrets: register_own(client, secrets)
    client.close()


@pytest.mark.parametrize("form", ["secret", "json key of a secret", "parameter"])
def test_a_key_by_reference_reaches_the_container_as_a_secret_and_stands_nowhere(
    in_secret: Store,
    in_parameter: Store,
    monkeypatch: pytest.MonkeyPatch,
    lambdas: Lambdas,
    prefect: Prefect1Server,
    ecs: EcsServer,
    said: Callable[[str], str],
    form: str,
) -> None:
    if form == "parameter":
        reference = in_parameter(CLOUD_KEY)
    elif form == "secret":
        reference = in_secret(CLOUD_KEY)
    else:
        reference = in_secret(json.dumps({"api-key": CLOUD_KEY, "other": "x"})) + ":api-key::"
    monkeypatch.setenv("PREFECT__CLOUD__API_KEY", reference)
    monkeypatch.setenv("PREFECT__CLOUD__AGENT__LEVEL", "DEBUG")
    run_id = add_run(prefect)
    lambdas.tick()
    check_launched(prefect, ecs, run_id)
    (definition,), (task,) = ecs.definitions(), ecs.tasks()
    (flow,) = definition["containerDefinitions"]
    assert {entry["name"]: entry["valueFrom"] for entry in flow["secrets"]} == dict.fromkeys(KEY_VARIABLES, reference)
    assert not flow_environment(task).keys() & set(KEY_VARIABLES)
    seen = said(run_id)
    assert '"message":"Tick"' in seen
    assert CLOUD_KEY not in seen


def test_a_plain_key_is_given_to_the_container_and_is_in_no_log_or_state(
    lambdas: Lambdas,
    prefect: Prefect1Server,
    ecs: EcsServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PREFECT__CLOUD__API_KEY", CLOUD_KEY)
    monkeypatch.setenv("PREFECT__CLOUD__AGENT__LEVEL", "DEBUG")
    good, bad = add_run(prefect), add_run(prefect, {"type": "ECSRun", "env": {"A": "x" * 9000}})
    lambdas.tick()
    (task,) = ecs.tasks()
    assert flow_environment(task)["PREFECT__CLOUD__API_KEY"] == CLOUD_KEY
    told = [[prefect.states(run_id), prefect.logs(run_id)] for run_id in (good, bad)]
    seen = "".join(capfd.readouterr()) + json.dumps([told, lambdas.get("/api/health/details")], default=str)
    assert '"message":"Tick"' in seen
    assert CLOUD_KEY not in seen


def test_without_an_execution_role_the_run_fails_unclaimed_with_the_setting(
    by_secret: str, lambdas: Lambdas, prefect: Prefect1Server, ecs: EcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGENT_EXECUTION_ROLE_ARN")
    run_id = add_run(prefect)
    own_role = add_run(prefect, {**GOOD, "execution_role_arn": "arn:aws:iam::123456789012:role/of-the-flow"})
    lambdas.tick()
    row = prefect.flow_run(run_id)
    assert [state["state"] for state in prefect.states(run_id)] == ["Scheduled", "Failed"]
    assert "AGENT_EXECUTION_ROLE_ARN" in row["state_message"]
    check_launched(prefect, ecs, own_role)


def test_an_own_definition_without_the_secret_fails_with_the_lines_and_with_them_is_launched(
    by_secret: str,
    lambdas: Lambdas,
    prefect: Prefect1Server,
    ecs: EcsServer,
    own_definition: Callable[[list[dict[str, str]]], str],
) -> None:
    bare = add_run(prefect, {"type": "ECSRun", "task_definition_arn": own_definition([])})
    lambdas.tick()
    row = prefect.flow_run(bare)
    assert [state["state"] for state in prefect.states(bare)] == ["Scheduled", "Failed"]
    lines = row["state_message"].partition('"secrets": ')[2].partition(" (or")[0]
    better = own_definition(json.loads(lines))
    run_id = add_run(prefect, {"type": "ECSRun", "task_definition_arn": better})
    lambdas.tick()
    check_launched(prefect, ecs, run_id)
    (task,) = ecs.tasks()
    assert task["taskDefinitionArn"] == better
    assert not flow_environment(task).keys() & set(KEY_VARIABLES)


def test_the_key_goes_into_an_own_definitions_overrides_only_where_that_is_allowed(
    by_secret: str,
    lambdas: Lambdas,
    prefect: Prefect1Server,
    ecs: EcsServer,
    own_definition: Callable[[list[dict[str, str]]], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGENT_ALLOW_PLAIN_API_KEY", "true")
    own = add_run(prefect, {"type": "ECSRun", "task_definition_arn": own_definition([])})
    usual = add_run(prefect)
    lambdas.tick()
    environments = {task["startedBy"]: flow_environment(task) for task in ecs.tasks()}
    assert environments[f"prefect/{own}"]["PREFECT__CLOUD__API_KEY"] == CLOUD_KEY
    assert not environments[f"prefect/{usual}"].keys() & set(KEY_VARIABLES)


@pytest.mark.parametrize(
    ("text", "suffix", "problem"),
    [
        (" ", "", "which is empty; put the API key into it"),
        (json.dumps({"key": ""}), ":key::", "which is empty"),
        (json.dumps({"key": CLOUD_KEY}), ":api-key::", "which has no key 'api-key'"),
        (CLOUD_KEY, ":api-key::", "which has no key 'api-key'"),
        (CLOUD_KEY, "::AWSNEXT:", "ResourceNotFoundException"),
        (json.dumps({"key": CLOUD_KEY}, indent=2), "", "holds white space or characters that no key has"),
        (CLOUD_KEY + "\u20ac", "", "characters that no key has; give the key alone"),
        (json.dumps({"key": None}), ":key::", "is not a text"),
    ],
)
def test_a_secret_without_a_key_is_told_before_anything_is_claimed(
    in_secret: Store,
    lambdas: Lambdas,
    prefect: Prefect1Server,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    suffix: str,
    problem: str,
) -> None:
    reference = in_secret(text) + suffix
    monkeypatch.setenv("PREFECT__CLOUD__API_KEY", reference)
    run_id = add_run(prefect)
    with pytest.raises(SettingsError) as caught:
        lambdas.tick()
    assert problem in str(caught.value)
    assert reference in str(caught.value)
    assert CLOUD_KEY not in str(caught.value)
    assert (prefect.flow_run(run_id)["state"], prefect.requests) == ("Scheduled", [])


@pytest.mark.parametrize(
    "reference",
    [
        "arn:aws:secretsmanager:us-east-1:123456789012:secret:nobody-made-this-Ab12Cd",
        "arn:aws:ssm:us-east-1:123456789012:parameter/nobody/made/this",
    ],
)
def test_a_secret_that_cannot_be_read_is_named_and_makes_the_agent_unhealthy(
    lambdas: Lambdas, prefect: Prefect1Server, monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    monkeypatch.setenv("PREFECT__CLOUD__API_KEY", reference)
    run_id = add_run(prefect)
    with pytest.raises(SettingsError, match=r"cannot be read: (ResourceNotFoundException|ParameterNotFound)"):
        lambdas.tick()
    assert prefect.flow_run(run_id)["state"] == "Scheduled"
    assert lambdas.get("/api/health") == (503, {"status": "unhealthy"})
    assert reference in lambdas.get("/api/health/details")[1]["reason"]


def test_a_rotated_secret_is_read_again_by_the_tick_after_the_refusal(
    secrets: Any,
    in_secret: Store,
    lambdas: Lambdas,
    prefect: Prefect1Server,
    ecs: EcsServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reference = in_secret("revoked-0123456789")
    monkeypatch.setenv("PREFECT__CLOUD__API_KEY", reference)
    run_id = add_run(prefect)
    with pytest.raises(PrefectUnauthorized):
        lambdas.tick()
    secrets.put_secret_value(SecretId=reference, SecretString=CLOUD_KEY)
    lambdas.tick()
    check_launched(prefect, ecs, run_id)


@pytest.mark.parametrize("variable", ["PREFECT__CLOUD__API_KEY", "PREFECT__CLOUD__AGENT__AUTH_TOKEN"])
def test_a_wrong_key_is_named_and_nothing_is_lost(
    lambdas: Lambdas,
    prefect: Prefect1Server,
    ecs: EcsServer,
    monkeypatch: pytest.MonkeyPatch,
    said: Callable[[str], str],
    variable: str,
) -> None:
    monkeypatch.setenv(variable, "wrong-0123456789")
    run_id = add_run(prefect)
    with pytest.raises(PrefectUnauthorized, match=f"refuses the API key.*{variable}"):
        lambdas.tick()
    assert prefect.flow_run(run_id)["state"] == "Scheduled"
    assert lambdas.get("/api/health") == (503, {"status": "unhealthy"})
    seen = said(run_id)
    assert "refuses the API key" in seen
    assert "wrong-0123456789" not in seen
    monkeypatch.setenv("PREFECT__CLOUD__API_KEY", CLOUD_KEY)
    lambdas.freeze()
    lambdas.tick()
    check_launched(prefect, ecs, run_id)
