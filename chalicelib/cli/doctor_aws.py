"""What `doctor` looks at in an AWS account: it only reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from chalicelib.cli.doctor_network import check_network
from chalicelib.cli.findings import Found, either, examine, not_checked, ok, warn, wrong
from chalicelib.flow_runs import Document
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.aws_answers import answers
from chalicelib.launchers.templates import read_own_template
from chalicelib.platform_parts import network_arguments
from chalicelib.settings import Settings

FARGATE_QUOTA = {"ServiceCode": "fargate", "QuotaCode": "L-3032A538"}
"""Fargate On-Demand vCPU resource count: https://docs.aws.amazon.com/general/latest/gr/ecs-service.html"""

FEW_VCPUS = 16
FUNCTION_SECONDS = 60
"""The time-out of the functions: AWS lets none read a queue whose visibility time-out is below that."""

WAKEUP_SECONDS, EVENTS_SECONDS = (60, 600), (86_400, 1_209_600)
"""How long each queue has to keep messages: a wake-up while it is worth something, an event while Prefect is away."""

_TASKS = "ecs-tasks.amazonaws.com"
_PASSED_TO = {"ContextKeyName": "iam:PassedToService", "ContextKeyValues": [_TASKS], "ContextKeyType": "string"}


class AwsAccount(AwsClients):
    """AWS, asked by the names that policies have for actions."""

    def ask(self, action: str, **parameters: Any) -> Any:
        """The answer to `service:Action`. Raises LaunchError, and SettingsError without a region or credentials."""
        service, _, operation = action.partition(":")
        client = self._client({"servicequotas": "service-quotas"}.get(service, service))
        with answers(action):
            return getattr(client, re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower())(**parameters)


def check_aws(settings: Settings, account: AwsAccount, pool: Document) -> Found:
    """Sign-in, clusters, network, roles and quota, as the settings, or else the job configuration of `pool`, have them.

    Raises LaunchError or SettingsError when AWS cannot be asked anything, or a template cannot be used.
    """
    told = account.ask("sts:GetCallerIdentity")
    yield ok(f"AWS: account {told['Account']}, region {account.ecs().meta.region_name}, signed in as {told['Arn']}")
    clusters, network, roles = _plan(settings, account, pool)
    yield from examine("Clusters", partial(_check_clusters, clusters, account, bool(pool)))
    yield from examine("Network", partial(check_network, network, account.ask, account))
    for kind, arn in roles.items():
        yield from examine(kind, partial(_check_role, kind, arn, account), f"create {arn}, or name another")
        yield from examine(f"Passing the {kind.lower()}", partial(_check_passing, kind, arn, account, told["Arn"]))
    if settings.secret_reference and "Execution role" not in roles:
        yield warn("Execution role: none, so tasks get no API key unless their run names one: AGENT_EXECUTION_ROLE_ARN")
    if settings.launch_type != "EC2":
        yield from examine("Quota", partial(_check_quota, account), bad=not_checked)


def _plan(settings: Settings, account: AwsAccount, pool: Document) -> tuple[Sequence[str], Document, dict[str, str]]:
    """The clusters and the network of tasks that name nothing of their own, and their roles by kind.

    The network is an awsvpcConfiguration, or has a `vpc_id`, or nothing for the default VPC. A work pool's own word
    goes before the agent's templates, and theirs before its settings, but for the cluster.
    """
    paths = (settings.run_task_kwargs_path, settings.task_definition_path)
    own, template = (read_own_template(path, account.s3) if path else {} for path in paths)
    request, definition = pool.get("task_run_request") or {}, pool.get("task_definition") or template
    cluster = _first("cluster", request, pool, vars(settings), own) or "default"
    placed = (request, {**network_arguments(settings), **own})
    theirs, ours = (_first("awsvpcConfiguration", each.get("networkConfiguration") or {}) for each in placed)
    network = theirs or pool.get("network_configuration") or (pool if pool.get("vpc_id") else ours or {})
    sources = (definition, request.get("overrides") or {})
    task = _first("taskRoleArn", *sources) or settings.task_role_arn
    execution = _first("executionRoleArn", *sources) or settings.execution_role_arn
    roles = {kind: arn for kind, arn in (("Task role", task), ("Execution role", execution)) if arn}
    return (cluster, *settings.allowed_clusters), network, roles


def _first(name: str, *documents: Document) -> Any:
    return next((document[name] for document in documents if document.get(name)), None)


def _check_clusters(clusters: Sequence[str], account: AwsAccount, is_of_pool: bool) -> Found:
    where = "in the work pool, or by --cluster" if is_of_pool else "--cluster"
    found = account.ask("ecs:DescribeClusters", clusters=list(clusters))["clusters"]
    statuses = {name: row["status"] for row in found for name in (row["clusterName"], row["clusterArn"])}
    for cluster in clusters:
        bad = f"Cluster: {cluster} is {statuses.get(cluster, 'not there')}: create it, or name another ({where})"
        yield either(statuses.get(cluster) == "ACTIVE", f"Cluster: {cluster} is ACTIVE", bad)


def _check_role(kind: str, arn: str, account: AwsAccount) -> Found:
    role = account.ask("iam:GetRole", RoleName=arn.rpartition("/")[2])["Role"]
    yield either(role["Arn"] == arn, f"{kind}: {arn}", f"{kind}: {arn} is not there, but {role['Arn']} is: name that")
    if _TASKS not in str(role["AssumeRolePolicyDocument"]):
        yield wrong(f"{kind}: no task can assume {role['Arn']}: its trust policy must name {_TASKS}")


def _check_passing(kind: str, arn: str, account: AwsAccount, caller: str) -> Found:
    # Policies are those of the role that the caller has assumed, whose path only IAM knows.
    assumed = re.search(r":assumed-role/([^/]+)/", caller)
    source = account.ask("iam:GetRole", RoleName=assumed[1])["Role"]["Arn"] if assumed else caller
    asked = {"PolicySourceArn": source, "ActionNames": ["iam:PassRole"], "ResourceArns": [arn]}
    told = account.ask("iam:SimulatePrincipalPolicy", **asked, ContextEntries=[_PASSED_TO])["EvaluationResults"]
    bad = f"{kind}: {caller} may not pass it to tasks: allow iam:PassRole on {arn}"
    yield either(told[0]["EvalDecision"] == "allowed", f"{kind}: {caller} may pass it to tasks", bad)


def _check_quota(account: AwsAccount) -> Found:
    vcpus = account.ask("servicequotas:GetServiceQuota", **FARGATE_QUOTA)["Quota"]["Value"]
    text = f"Quota: {vcpus:g} vCPUs of Fargate at once in this region"
    yield ok(text) if vcpus >= FEW_VCPUS else warn(f"{text}; what needs more waits: raise it in Service Quotas")


def check_stage(settings: Settings, account: AwsAccount) -> Found:
    """What the URLs of the queues lead to, and what fills them; nothing for an agent that is a process."""
    for name, url in {"Wake-up queue": settings.wakeup_queue_url, "Events queue": settings.events_queue_url}.items():
        if url:
            check = partial(_check_queue, name, url, account)
            yield from examine(name, check, "deploy infra/core.yaml, or correct its URL")
    if wakeups := settings.wakeup_queue_url:
        yield from examine("Schedule", partial(_check_schedule, wakeups, settings.schedule, account))


def _check_queue(name: str, url: str, account: AwsAccount) -> Found:
    is_events = name == "Events queue"
    found = account.ask("sqs:GetQueueAttributes", QueueUrl=url, AttributeNames=["All"])["Attributes"]
    least, most = EVENTS_SECONDS if is_events else WAKEUP_SECONDS
    problems = {
        f"its visibility time-out is under {FUNCTION_SECONDS} s": int(found["VisibilityTimeout"]) < FUNCTION_SECONDS,
        f"its retention is not {least} to {most} s": not least <= int(found["MessageRetentionPeriod"]) <= most,
        f"it has {'no' if is_events else 'a'} redrive policy": ("RedrivePolicy" in found) != is_events,
    }
    yield ok(f"{name}: {url}")
    yield from (wrong(f"{name}: {words}: set it as infra/core.yaml does") for words, is_so in problems.items() if is_so)
    if is_events:
        names = account.ask("events:ListRuleNamesByTarget", TargetArn=found["QueueArn"])["RuleNames"]
        rules = [account.ask("events:DescribeRule", Name=each)["State"] for each in names]
        bad = f"{name}: no enabled rule of EventBridge sends to it: deploy infra/core.yaml with ClusterArns"
        yield either("ENABLED" in rules, f"{name}: filled by {', '.join(names)}", bad)


def _check_schedule(url: str, expression: str, account: AwsAccount) -> Found:
    wanted = f"{url.rpartition('/')[2].removesuffix('-wakeups')}-tick-event"
    rules = account.ask("events:ListRules", NamePrefix=wanted)["Rules"]
    told = [f"{rule['State']} {rule.get('ScheduleExpression')}" for rule in rules] or ["not there"]
    bad = f"Schedule: rule {wanted} is {', '.join(told)}, not ENABLED {expression}: deploy the stage"
    yield either(f"ENABLED {expression}" in told, f"Schedule: {expression} by rule {wanted}", bad)
