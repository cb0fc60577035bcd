"""A stage from nothing to an agent and back, by the commands of `make deploy` and `make destroy`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.deploy.account import AwsAccount, Clone, Outcome, inventory
from tests.deploy.conftest import MakeClone

API = "https://prefect.example.org"
UP = ("up", "--stage", "prod")
FIRST = (*UP, "--set", f"PREFECT__CLOUD__API={API}", "--parameter", "CreateApiKeySecret=yes")
FUNCTIONS = {
    "prefect-agent-prod",
    "prefect-agent-prod-tick",
    "prefect-agent-prod-wake",
    "prefect-agent-prod-task_stopped",
}


class Deployed:
    """A stage that has just been deployed, and what was there before."""

    def __init__(self, account: AwsAccount, clone: Clone) -> None:
        self.account = account
        self.clone = clone
        self.before = inventory(account)
        self.outcome = clone.run(*FIRST)
        assert self.outcome.code == 0, self.outcome.err
        self.after = inventory(account)

    def new(self, kind: str) -> set[str]:
        """What of this kind the deployment has made."""
        return set(self.after.get(kind, [])) - set(self.before.get(kind, []))

    def function(self, name: str) -> dict[str, Any]:
        """The configuration of a function."""
        found: dict[str, Any] = self.account.client("lambda").get_function_configuration(FunctionName=name)
        return found


@pytest.fixture(scope="module")
def stage(account: AwsAccount, make_clone: MakeClone) -> Deployed:
    return Deployed(account, make_clone())


def run(clone: Clone, *words: str) -> Outcome:
    outcome = clone.run(*words)
    assert outcome.code == 0, outcome.err
    return outcome


def test_a_fresh_clone_becomes_a_stage_of_all_its_parts(stage: Deployed) -> None:
    assert stage.new("stacks") == {"prefect-agent-prod", "prefect-agent-prod-ecs"}
    assert stage.new("functions") == FUNCTIONS
    assert stage.new("rules") >= {"prefect-agent-prod-tick-event"}
    assert stage.new("clusters") == {"arn:aws:ecs:us-east-1:123456789012:cluster/prefect-agent-prod"}
    assert {each.removeprefix("prefect-agent-prod-") for each in stage.new("alarms")} == {
        "no-poll", "backlog", "launch-failures", "dead-letters", "function-errors",
    }  # fmt: skip
    assert stage.new("dashboards") == {"prefect-agent-prod"}
    assert {len(stage.new(kind)) for kind in ("apis", "secrets", "parameters", "security groups")} == {1}
    assert {kind: len(stage.new(kind)) for kind in ("queues", "mappings", "queries", "roles")} == {
        "queues": 3, "mappings": 2, "queries": 4, "roles": 6,
    }  # fmt: skip


def test_the_end_says_where_health_is_and_when_it_ticks(stage: Deployed) -> None:
    (api,) = stage.new("apis")
    assert f"https://{api}.execute-api.us-east-1.amazonaws.com/prod/api/health" in stage.outcome.out
    assert "Next tick: by rate(1 minute)" in stage.outcome.out
    assert "put-secret-value" in stage.outcome.out


def test_each_function_has_a_role_of_its_own_the_same_code_and_runs_on_arm(stage: Deployed) -> None:
    configurations = [stage.function(name) for name in FUNCTIONS]
    assert len({each["Role"] for each in configurations}) == 4
    assert len({each["CodeSha256"] for each in configurations}) == 1
    assert {tuple(each["Architectures"]) for each in configurations} == {("arm64",)}
    assert {each["FunctionName"]: each["Timeout"] for each in configurations} == {
        name: 25 if name == "prefect-agent-prod" else 60 for name in FUNCTIONS
    }


def test_the_functions_know_what_the_stacks_have_made(stage: Deployed) -> None:
    variables = stage.function("prefect-agent-prod-tick")["Environment"]["Variables"]
    (secret,) = stage.account.list("secretsmanager", "list_secrets", "SecretList")
    assert variables["PREFECT__CLOUD__API"] == API
    assert variables["PREFECT__CLOUD__API_KEY"] == secret["ARN"]
    assert variables["AGENT_CLUSTER"].endswith(":cluster/prefect-agent-prod")
    assert variables["AGENT_WAKEUP_QUEUE_URL"].endswith("/prefect-agent-prod-wakeups")
    assert variables["AGENT_SUBNETS"].startswith("subnet-")


def test_a_failed_tick_is_not_repeated_and_the_api_is_throttled(stage: Deployed) -> None:
    invoked = stage.account.client("lambda").get_function_event_invoke_config(FunctionName="prefect-agent-prod-tick")
    assert (invoked["MaximumRetryAttempts"], invoked["MaximumEventAgeInSeconds"]) == (0, 60)
    (api,) = stage.new("apis")
    deployed = stage.account.client("apigateway").get_stage(restApiId=api, stageName="prod")
    limits = deployed["methodSettings"]["*/*"]
    assert (limits["throttlingRateLimit"], limits["throttlingBurstLimit"]) == (5, 10)


def test_only_health_is_open(stage: Deployed) -> None:
    (api,) = stage.new("apis")
    resources = stage.account.list("apigateway", "get_resources", "items", restApiId=api, embed=["methods"])
    assert {each["path"] for each in resources if each.get("resourceMethods")} == {
        "/api/health", "/api/health/details", "/api/poke",
    }  # fmt: skip
    zipped = json.loads((stage.clone.directory / ".chalice" / "deployed" / "prod.json").read_text())
    assert [each["rest_api_id"] for each in zipped["resources"] if each["resource_type"] == "rest_api"] == [api]


def test_the_queues_lead_to_their_functions_and_only_the_rule_fills_the_events(stage: Deployed) -> None:
    mappings = stage.account.list("lambda", "list_event_source_mappings", "EventSourceMappings")
    led = {each["EventSourceArn"].rpartition(":")[2]: each["FunctionArn"].rpartition(":")[2] for each in mappings}
    assert led == {
        "prefect-agent-prod-wakeups": "prefect-agent-prod-wake",
        "prefect-agent-prod-events": "prefect-agent-prod-task_stopped",
    }
    sqs = stage.account.client("sqs")
    url = sqs.get_queue_url(QueueName="prefect-agent-prod-events")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    (statement,) = json.loads(attributes["Policy"])["Statement"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert "prefect-agent-prod" in statement["Condition"]["ArnEquals"]["aws:SourceArn"]
    assert json.loads(attributes["RedrivePolicy"])["deadLetterTargetArn"].endswith("-events-dead")
    assert int(attributes["VisibilityTimeout"]) >= 60


def test_the_schedule_ticks_and_the_event_rule_listens_to_its_own_cluster(stage: Deployed) -> None:
    rules = {each["Name"]: each for each in stage.account.list("events", "list_rules", "Rules")}
    assert rules["prefect-agent-prod-tick-event"]["ScheduleExpression"] == "rate(1 minute)"
    (listening,) = [json.loads(each["EventPattern"]) for each in rules.values() if "EventPattern" in each]
    assert listening["detail"]["lastStatus"] == ["STOPPED"]
    assert listening["detail"]["clusterArn"] == sorted(stage.new("clusters"))
    assert listening["detail"]["startedBy"] == [{"prefix": "prefect/"}]


def test_every_log_group_forgets_and_the_dashboard_is_a_document(stage: Deployed) -> None:
    groups = stage.account.list("logs", "describe_log_groups", "logGroups")
    ours = {each["logGroupName"]: each.get("retentionInDays") for each in groups}
    assert ours == {f"/aws/lambda/{name}": 30 for name in FUNCTIONS} | {"/prefect-agent/prod/flows": 30}
    body = stage.account.client("cloudwatch").get_dashboard(DashboardName="prefect-agent-prod")["DashboardBody"]
    widgets = json.loads(body)["widgets"]
    assert [each["type"] for each in widgets] == ["alarm", "metric", "metric", "metric", "metric", "log"]
    assert len(widgets[0]["properties"]["alarms"]) == 5


def test_the_alarms_watch_this_agent_and_miss_a_poll_that_does_not_come(stage: Deployed) -> None:
    alarms = {each["AlarmName"]: each for each in stage.account.list("cloudwatch", "describe_alarms", "MetricAlarms")}
    poll = alarms["prefect-agent-prod-no-poll"]
    assert (poll["EvaluationPeriods"], poll["Period"], poll["TreatMissingData"]) == (3, 60, "breaching")
    assert poll["Dimensions"] == [{"Name": "service", "Value": "lambda-prod"}]
    assert alarms["prefect-agent-prod-backlog"]["Threshold"] == 120
    watched = [each["MetricStat"]["Metric"] for each in alarms["prefect-agent-prod-function-errors"]["Metrics"][1:]]
    assert {each["Dimensions"][0]["Value"] for each in watched} == FUNCTIONS


def test_what_was_uploaded_is_small(stage: Deployed) -> None:
    assert stage.clone.package("prod").stat().st_size < 5_000_000


def test_again_without_changes_changes_nothing(stage: Deployed) -> None:
    outcome = run(stage.clone, *UP)
    assert outcome.out.count("nothing changes") == 2
    assert inventory(stage.account) == stage.after


def test_chalice_itself_deploys_a_stage_that_exists(stage: Deployed) -> None:
    """Without bytecode, from the clone and not from a copy of it."""
    outcome = stage.clone.chalice("deploy", "--stage", "prod")
    assert outcome.code == 0, outcome.err
    assert inventory(stage.account) == stage.after


def test_a_second_clone_that_knows_nothing_finds_the_stage(stage: Deployed, make_clone: MakeClone) -> None:
    second = make_clone()
    run(second, *UP)
    assert inventory(stage.account) == stage.after
    assert second.stage("prod") == stage.clone.stage("prod")


@pytest.mark.parametrize("command", ["doctor", "runs", "health"])
def test_a_stage_is_looked_at_with_its_own_settings(stage: Deployed, make_clone: MakeClone, command: str) -> None:
    looked = make_clone().run(command, "--stage", "prod")
    said = looked.out + looked.err
    # Nobody has put a key there yet.
    assert "ApiKeySecret" in said
    assert looked.code in (1, 2)
    assert "Traceback" not in said


def test_a_plan_shows_what_would_change_and_changes_nothing(stage: Deployed) -> None:
    outcome = run(stage.clone, "plan", "--stage", "prod", "--parameter", "LogRetentionDays=7")
    assert "stack core:" in outcome.out
    assert inventory(stage.account) == stage.after
    assert {each.get("retentionInDays") for each in stage.account.list("logs", "describe_log_groups", "logGroups")} == {
        30
    }


def test_a_changed_setting_reaches_the_functions_and_the_schedule(stage: Deployed) -> None:
    labels = '["prod"]'
    run(stage.clone, *UP, "--set", f"PREFECT__CLOUD__AGENT__LABELS={labels}", "--set", "AGENT_SCHEDULE=rate(2 minutes)")
    variables = stage.function("prefect-agent-prod-tick")["Environment"]["Variables"]
    rules = {each["Name"]: each for each in stage.account.list("events", "list_rules", "Rules")}
    assert variables["PREFECT__CLOUD__AGENT__LABELS"] == labels
    assert rules["prefect-agent-prod-tick-event"]["ScheduleExpression"] == "rate(2 minutes)"
    assert inventory(stage.account) == stage.after


def test_a_lost_memory_is_rebuilt_from_what_lives(stage: Deployed, make_clone: MakeClone) -> None:
    stage.account.client("ssm").delete_parameter(Name="/prefect-agent/prod/deployed")
    stage.clone.forget("prod")
    run(stage.clone, *UP)
    assert inventory(stage.account) == stage.after
    run(make_clone(), *UP)
    assert inventory(stage.account) == stage.after


@pytest.mark.parametrize("call", ["PUT /2015-03-31/functions/prefect-agent-prod-wake/code", "PutRule", "PutParameter"])
def test_what_broke_off_says_where_and_goes_on_when_it_is_run_again(stage: Deployed, call: str) -> None:
    stage.account.refuse(call)
    broken = stage.clone.run(*UP)
    stage.account.refuse()
    assert broken.code == 2
    assert "stopped at: functions" in broken.err
    assert "Traceback" not in broken.err
    run(stage.clone, *UP)
    assert inventory(stage.account) == stage.after


def test_who_does_not_confirm_deletes_nothing(stage: Deployed) -> None:
    outcome = stage.clone.run("down", "--stage", "prod", answer="no\n")
    assert outcome.code == 1
    assert inventory(stage.account) == stage.after


def test_a_third_clone_takes_everything_down_and_leaves_nothing(stage: Deployed, make_clone: MakeClone) -> None:
    ecs = stage.account.client("ecs")
    role = stage.function("prefect-agent-prod-tick")["Environment"]["Variables"]["AGENT_EXECUTION_ROLE_ARN"]
    container = {"name": "flow", "image": "flows:1", "memory": 512}
    ecs.register_task_definition(family="prefect-flows", executionRoleArn=role, containerDefinitions=[container])
    ecs.register_task_definition(family="prefect-others", containerDefinitions=[container])
    outcome = make_clone().run("down", "--stage", "prod", answer="prod\n")
    assert outcome.code == 0, outcome.err
    left = inventory(stage.account)
    assert left.pop("definitions") == ["arn:aws:ecs:us-east-1:123456789012:task-definition/prefect-others:1"]
    assert left == stage.before


def test_taking_down_what_is_not_there_is_no_error(stage: Deployed, make_clone: MakeClone) -> None:
    outcome = make_clone().run("down", "--stage", "never", "--yes")
    assert outcome.code == 0, outcome.err
