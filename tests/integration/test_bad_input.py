"""Bad input, through the real handlers: a clear error where it belongs, everybody else served, nothing lost."""

from __future__ import annotations

from typing import Any

import boto3
import pytest

from chalicelib.errors import PrefectUnreachable, SettingsError
from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import Prefect1Server
from tests.integration.lambdas import Lambdas
from tests.integration.pairs import GOOD, Pair, check_launched

MISSING_ARN = "arn:aws:ecs:us-east-1:123456789012:task-definition/gone:7"
FOREIGN_ROLE = "arn:aws:iam::123456789012:role/administrator"
EXECUTION_ROLE = "arn:aws:iam::123456789012:role/execution"
NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-0a1b2c3d"], "assignPublicIp": "DISABLED"}}


@pytest.fixture
def pair(prefect: Prefect1Server, ecs: EcsServer) -> Pair:
    return Pair(prefect, ecs)


def with_arguments(**arguments: Any) -> dict[str, Any]:
    return {**GOOD, "run_task_kwargs": arguments}


IMPOSSIBLE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "run config of another agent": ({"type": "DockerRun"}, ["`DockerRun`", "`ECSRun`", "change the run config"]),
    "run config without a type": ({"image": "flows:1"}, ["run_config", "`ECSRun`"]),
    "image that is no text": ({"type": "ECSRun", "image": 5}, ["image is a number, not text"]),
    "empty image": ({"type": "ECSRun", "image": ""}, ["image is empty"]),
    "task definition that is no object": ({**GOOD, "task_definition": ["flow"]}, ["task_definition is a list"]),
    "containers that are no list": (
        {**GOOD, "task_definition": {"containerDefinitions": {"name": "flow"}}},
        ["task_definition cannot be used", "containerDefinitions is an object, not a list"],
    ),
    "null in the task definition": (
        {**GOOD, "task_definition": {"volumes": [{"name": None}]}},
        ["volumes[0].name is null", "leave it out"],
    ),
    "overrides that are too long": ({**GOOD, "env": {"BIG": "x" * 9000}}, ["8192", "BIG", "task definition"]),
    "definition that does not exist": (
        {"type": "ECSRun", "task_definition_arn": MISSING_ARN},
        [MISSING_ARN, "Unable to describe task definition"],
    ),
    "template on the disk": (
        {**GOOD, "task_definition_path": "/etc/passwd"},
        ["/etc/passwd", "AGENT_TEMPLATE_PATHS"],
    ),
    "template on the web": (
        {**GOOD, "task_definition_path": "http://127.0.0.1:9/template"},
        ["http://127.0.0.1:9/template", "AGENT_TEMPLATE_PATHS"],
    ),
    "ten tasks": (with_arguments(count=10), ["run_task_kwargs", "count is 10", "leave it out"]),
    "somebody's launch key": (with_arguments(clientToken="mine"), ["clientToken", "launch key"]),
    "unknown argument": (with_arguments(clusterName="flows"), ["no argument clusterName"]),
    "cluster of others": (with_arguments(cluster="payroll"), ["cluster payroll", "AGENT_CLUSTERS"]),
    "a way in": (with_arguments(enableExecuteCommand=True), ["AGENT_ALLOW_EXECUTE_COMMAND"]),
}


@pytest.mark.parametrize(("run_config", "words"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_what_can_never_be_launched_fails_unclaimed_with_what_to_change(
    lambdas: Lambdas, pair: Pair, run_config: dict[str, Any], words: list[str]
) -> None:
    pair.add(run_config)
    report = lambdas.tick()
    reason = pair.reason
    assert [word for word in words if word not in reason] == []
    assert "Submitted" not in [state["state"] for state in pair.prefect.states(pair.bad)]
    assert (report["impossible"], report["launched"], report["errors"]) == (1, 1, [])
    pair.check_the_good_one()


def test_docker_storage_without_an_image_fails_with_what_is_missing(lambdas: Lambdas, pair: Pair) -> None:
    pair.add({"type": "ECSRun"}, storage={"type": "Docker", "registry_url": "registry.example.com"})
    lambdas.tick()
    assert "image_name is missing, image_tag is missing" in pair.reason
    assert "register it again" in pair.reason
    pair.check_the_good_one()


def test_a_role_that_may_not_be_passed_fails_its_run_with_the_permission(lambdas: Lambdas, pair: Pair) -> None:
    pair.ecs.passable_roles = {EXECUTION_ROLE}
    pair.add({**GOOD, "task_role_arn": FOREIGN_ROLE})
    report = lambdas.tick()
    assert f"add the role {FOREIGN_ROLE}" in pair.reason
    assert "iam:PassRole" in pair.reason
    assert report["refused_for_good"] == 1
    pair.check_the_good_one()
    assert lambdas.get("/api/health") == (200, {"status": "ok"})


def test_a_nul_in_what_ecs_says_does_not_keep_the_reason_from_the_run(lambdas: Lambdas, pair: Pair) -> None:
    pair.ecs.faults.add(
        lambda action, parameters: action == "RunTask" and pair.bad in parameters["startedBy"],
        then="error",
        code="InvalidParameterException",
        message="The image name holds a \x00 character.",
    )
    pair.add(GOOD)
    lambdas.tick()
    assert "The image name holds a character." in pair.reason
    pair.check_the_good_one()


def test_without_a_default_vpc_one_run_fails_with_the_setting_and_the_others_wait_for_it(
    lambdas: Lambdas, prefect: Prefect1Server, ecs: EcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    delete_default_vpc("eu-north-1")
    runs = [prefect.add_flow_run(labels=["dev"], run_config=GOOD) for _ in range(3)]
    own = prefect.add_flow_run(labels=["dev"], run_config=with_arguments(networkConfiguration=NETWORK))
    lambdas.tick()
    states = [prefect.flow_run(run_id) for run_id in runs]
    (failed,) = [row for row in states if row["state"] == "Failed"]
    assert "no default VPC" in failed["state_message"]
    assert "set AGENT_SUBNETS" in failed["state_message"]
    assert sorted(row["state"] for row in states) == ["Failed", "Scheduled", "Scheduled"]
    status, details = lambdas.get("/api/health/details")
    assert (status, "AGENT_SUBNETS" in details["reason"]) == (503, True)
    assert lambdas.tick()["found"] == 0
    assert prefect.flow_run(own)["state"] == "Scheduled"
    assert ecs.tasks() == []


def delete_default_vpc(region: str) -> None:
    ec2 = boto3.client("ec2", region_name=region)
    for vpc in ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]:
        subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])["Subnets"]
        for subnet in subnets:
            ec2.delete_subnet(SubnetId=subnet["SubnetId"])
        ec2.delete_vpc(VpcId=vpc["VpcId"])
    assert ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"] == []
    ec2.close()


@pytest.mark.parametrize(
    ("moment", "run_config"),
    [("flow_run", GOOD), ("set_flow_run_states", GOOD), ("write_run_logs", {"type": "DockerRun"})],
    ids=["before it is read", "before its claim", "before its reason is recorded"],
)
def test_a_run_that_is_deleted_meanwhile_is_left_alone(
    lambdas: Lambdas, pair: Pair, moment: str, run_config: dict[str, Any]
) -> None:
    lambdas.tick()
    pair.add(run_config)
    pair.prefect.faults.add("delay", lambda request: moment in request.field_names and delete(pair))
    report = lambdas.tick()
    assert (report["launched"], report["errors"]) == (1, [])
    assert len(pair.ecs.tasks()) == 1
    pair.check_the_good_one()
    assert lambdas.tick()["found"] == 0


def test_a_run_that_is_deleted_after_its_claim_does_not_take_the_others_sign_with_it(
    lambdas: Lambdas, pair: Pair
) -> None:
    pair.add(GOOD)
    pair.ecs.faults.add(lambda action, parameters: action == "RunTask" and delete(pair), then="delay")
    report = lambdas.tick()
    assert (report["launched"], report["errors"]) == (2, [])
    pair.check_the_good_one()


def delete(pair: Pair) -> bool:
    """Delete the bad run while a request is on its way, which goes on as if nothing had been."""
    pair.prefect.delete_flow_run(pair.bad)
    return True


def test_an_api_that_answers_html_is_named_as_such_and_nothing_is_lost(
    lambdas: Lambdas, prefect: Prefect1Server, ecs: EcsServer
) -> None:
    run_id = prefect.add_flow_run(labels=["dev"], run_config=GOOD)
    prefect.faults.add("html", "get_runs_in_queue")
    with pytest.raises(PrefectUnreachable, match=r"text/html where JSON is expected; check that PREFECT__CLOUD__API"):
        lambdas.tick()
    prefect.faults.add("html", "set_flow_run_states")
    (error,) = lambdas.tick()["errors"]
    assert "text/html" in error
    assert prefect.flow_run(run_id)["state"] == "Scheduled"
    assert ecs.tasks() == []
    lambdas.tick()
    check_launched(prefect, ecs, run_id)


def test_three_mistakes_in_the_settings_are_told_together(
    lambdas: Lambdas, prefect: Prefect1Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_LAUNCH_TYPE", "LAMBDA")
    monkeypatch.setenv("AGENT_CADENCE_SECONDS", "soon")
    monkeypatch.setenv("AGENT_CLUSTRE", "flows")
    run_id = prefect.add_flow_run(labels=["dev"], run_config=GOOD)
    with pytest.raises(SettingsError) as caught:
        lambdas.tick()
    assert sorted(problem.split(":")[0] for problem in caught.value.problems) == [
        "AGENT_CADENCE_SECONDS",
        "AGENT_CLUSTRE",
        "AGENT_LAUNCH_TYPE",
    ]
    assert "did you mean AGENT_CLUSTER?" in str(caught.value)
    assert (prefect.flow_run(run_id)["state"], prefect.requests) == ("Scheduled", [])
