"""Flow runs made into launch requests for ECS."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.builders.ecs_defaults import EcsDefaults
from chalicelib.builders.ecs_launch import EcsLaunch, build_ecs_launch, needs_network
from chalicelib.builders.flow_container import KEY_VARIABLES, ContainerSettings, flow_run_command
from chalicelib.builders.run_configs import EcsRun, read_ecs_run
from chalicelib.errors import SettingsError, UnsupportedRun
from chalicelib.flow_runs import Flow, FlowRun
from chalicelib.launchers.ecs_shapes import shape_problems

REFERENCE = "arn:aws:secretsmanager:eu-west-1:1:secret:key"
ROLE = "arn:aws:iam::1:role/pull"
NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "assignPublicIp": "ENABLED"}}
SPOT = [{"capacityProvider": "FARGATE_SPOT"}]
SERVER = ContainerSettings(api_url="http://prefect:4200")
BY_REFERENCE = replace(SERVER, secret_reference=REFERENCE)
DEFAULTS = EcsDefaults(container=SERVER, cluster="prod", agent_name="nightly")
FLOW = Flow("flow-1", "etl", version=4, core_version="1.4.1", storage={"type": "S3", "bucket": "b"})
OWN = {"containerDefinitions": [{"name": "flow", "image": "own:1"}]}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
SOME_ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "count": st.just(1),
        "startedBy": st.text(max_size=5),
        "tags": st.lists(
            st.builds(
                lambda key, value: {"key": key, "value": value},
                st.sampled_from(["team", "prefect.io/flow_run_id", "prefect-agent:key", "prefect:flow-id"]),
                st.sampled_from(["mine", "yours"]),
            ),
            max_size=4,
        ),
        "launchType": st.sampled_from(["EC2", "FARGATE"]),
        "group": st.just("g"),
        "overrides": st.fixed_dictionaries(
            {},
            optional={
                "cpu": st.integers(1, 4096),
                "containerOverrides": st.lists(
                    st.builds(
                        lambda name, cpu: {"name": name, "cpu": cpu}, st.sampled_from(["flow", "log"]), st.just(1)
                    ),
                    max_size=3,
                ),
            },
        ),
    },
)


def a_run(run_config: Any = None, flow: Flow = FLOW, run_id: str = "run-1", **fields: Any) -> FlowRun:
    started = datetime(2026, 1, 1, tzinfo=UTC)
    return FlowRun(run_id, "owl", 3, started, flow, run_config=run_config, tenant_id="tenant-1", **fields)


def ecs(**fields: Any) -> dict[str, Any]:
    return {"type": "ECSRun", "labels": [], **fields}


def build(run: FlowRun, defaults: EcsDefaults = DEFAULTS, base: Any = None) -> EcsLaunch:
    ecs_run = read_ecs_run(run)
    template = base if base is not None else ecs_run.task_definition or defaults.task_definition
    network = NETWORK if needs_network(ecs_run, defaults) else None
    return build_ecs_launch(run, ecs_run, template, defaults, network, shape_problems)


def refusal(run: FlowRun, defaults: EcsDefaults = DEFAULTS, base: Any = None) -> str:
    with pytest.raises(UnsupportedRun) as caught:
        build(run, defaults, base)
    return str(caught.value)


def definition_of(launch: EcsLaunch) -> dict[str, Any]:
    assert launch.definition is not None
    return dict(launch.definition)


def flow_environment(launch: EcsLaunch) -> dict[str, str]:
    overrides = launch.run_task["overrides"]["containerOverrides"]
    entries = next(each for each in overrides if each["name"] == "flow")["environment"]
    return {entry["name"]: entry["value"] for entry in entries}


def tags_of(launch: EcsLaunch) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in launch.run_task["tags"]}


# The plain case


def test_a_run_without_a_run_config_becomes_a_fargate_task_of_prefects_own_image() -> None:
    launch = build(a_run())
    assert launch.definition_arn is None
    assert {key: value for key, value in definition_of(launch).items() if key != "family"} == {
        "networkMode": "awsvpc",
        "cpu": "1024",
        "memory": "2048",
        "requiresCompatibilities": ["FARGATE"],
        "containerDefinitions": [
            {
                "name": "flow",
                "image": "prefecthq/prefect:1.4.1",
                "environment": [{"name": "PREFECT__CONTEXT__IMAGE", "value": "prefecthq/prefect:1.4.1"}],
            }
        ],
    }
    assert {key: value for key, value in launch.run_task.items() if key != "overrides"} == {
        "cluster": "prod",
        "count": 1,
        "launchType": "FARGATE",
        "networkConfiguration": NETWORK,
        "startedBy": "prefect/run-1",
        "tags": [
            {"key": "prefect-agent:name", "value": "nightly"},
            {"key": "prefect.io/flow_run_id", "value": "run-1"},
            {"key": "prefect:flow-id", "value": "flow-1"},
            {"key": "prefect:flow-version", "value": "4"},
        ],
    }
    assert launch.run_task["overrides"]["containerOverrides"][0]["command"] == [
        "/bin/sh",
        "-c",
        "prefect execute flow-run",
    ]
    assert flow_environment(launch)["PREFECT__CONTEXT__FLOW_RUN_ID"] == "run-1"


def test_what_is_asked_for_passes_the_checks_of_the_aws_client() -> None:
    launch = build(a_run(ecs(cpu="1 vcpu", env={"A": "1"}, run_task_kwargs={"group": "g"})))
    model: Any = botocore.session.get_session().get_service_model("ecs")
    for operation, request in (
        ("RegisterTaskDefinition", launch.definition),
        ("RunTask", {"taskDefinition": "x", **launch.run_task}),
    ):
        assert request is not None
        report = ParamValidator().validate(request, model.operation_model(operation).input_shape)
        assert report.generate_report() == ""


@pytest.mark.parametrize(
    ("version", "command"),
    [
        (None, "cloud-flow"),
        ("", "cloud-flow"),
        ("0.12.6+3.g1", "cloud-flow"),
        ("v0.9", "cloud-flow"),
        ("0.13", "flow-run"),
        ("0.13.0", "flow-run"),
        ("0.13.0+dirty", "flow-run"),
        ("0.13.0.post1", "flow-run"),
        ("0.13.1rc1", "flow-run"),
        ("1.0rc1", "flow-run"),
        ("10.0.0", "flow-run"),
        ("master", "flow-run"),
    ],
)
def test_flows_registered_before_0_13_are_run_by_the_older_command(version: str | None, command: str) -> None:
    assert flow_run_command(version) == ["/bin/sh", "-c", f"prefect execute {command}"]


def test_a_template_loses_its_family_for_one_that_names_the_content() -> None:
    definition = definition_of(build(a_run(ecs(task_definition={**OWN, "family": "theirs"}))))
    assert definition.keys() == {"family", "containerDefinitions", "requiresCompatibilities"}
    assert definition["family"].startswith("prefect-own-1-")


def test_sidecars_are_kept_as_they_are() -> None:
    sidecar = {"name": "proxy", "image": "envoy:1", "essential": False, "environment": [{"name": "Z", "value": ""}]}
    template = {"containerDefinitions": [sidecar, *OWN["containerDefinitions"]]}
    assert definition_of(build(a_run(ecs(task_definition=template))))["containerDefinitions"][0] == sidecar


# Definitions by content


def test_two_runs_of_a_flow_share_one_definition() -> None:
    first = build(a_run(ecs(env={"DAY": "1"}, cpu="256"), run_id="run-1"))
    second = build(a_run(ecs(env={"DAY": "2"}, cpu="512", task_role_arn=ROLE), run_id="run-2"))
    assert first.definition == second.definition
    assert first.run_task != second.run_task


@given(st.uuids(), st.uuids(), st.dictionaries(st.sampled_from("ABC"), st.text("xyz", max_size=5)))
def test_nothing_of_one_run_is_in_a_definition(run_id: Any, flow_id: Any, env: dict[str, str]) -> None:
    flow = replace(FLOW, id=str(flow_id), name="another name", version=99)
    launch = build(a_run({"type": "UniversalRun", "env": env}, flow=flow, run_id=str(run_id)))
    assert launch.definition == build(a_run()).definition
    assert str(run_id) in json.dumps(launch.run_task)


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_a_family_is_a_name_that_ecs_takes_and_tells_contents_apart(one: str, other: str) -> None:
    families = [definition_of(build(a_run(ecs(image=image))))["family"] for image in (one, other)]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,255}", family) for family in families)
    assert (families[0] == families[1]) == (one == other)


def test_the_order_of_keys_does_not_make_another_definition() -> None:
    template = {"networkMode": "awsvpc", "cpu": 256, **OWN}
    turned = dict(reversed(list(template.items())))
    assert build(a_run(ecs(task_definition=template))) == build(a_run(ecs(task_definition=turned)))


@given(SOME_ARGUMENTS)
def test_the_same_input_gives_the_same_bytes_and_is_left_as_it_was(arguments: dict[str, Any]) -> None:
    run = a_run(ecs(task_definition=OWN, run_task_kwargs=arguments, env={"B": "1", "A": "2"}))
    before = json.dumps(run.run_config)
    launches = [build(run) for _ in range(2)]
    texts = {json.dumps([launch.definition, launch.run_task]) for launch in launches}
    assert len(texts) == 1
    assert json.dumps(run.run_config) == before


# What is always ours


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [({"count": 10}, "count is 10"), ({"count": 0}, "count is 0"), ({"clientToken": "mine"}, "clientToken")],
)
def test_a_run_cannot_ask_for_more_tasks_or_for_a_launch_key_of_its_own(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedRun, match=reason):
        build(a_run(ecs(run_task_kwargs=arguments)))


@given(SOME_ARGUMENTS, SOME_ARGUMENTS)
def test_whatever_the_arguments_say_count_starter_and_tags_are_ours(
    of_the_run: dict[str, Any], of_the_agent: dict[str, Any]
) -> None:
    launch = build(a_run(ecs(run_task_kwargs=of_the_run)), replace(DEFAULTS, run_task_kwargs=of_the_agent))
    assert "clientToken" not in launch.run_task
    assert (launch.run_task["count"], launch.run_task["startedBy"]) == (1, "prefect/run-1")
    tags = tags_of(launch)
    assert tags["prefect.io/flow_run_id"] == "run-1"
    assert tags["prefect:flow-id"] == "flow-1"
    assert tags["prefect-agent:name"] == "nightly"
    assert "prefect-agent:key" not in tags
    flows = [each for each in launch.run_task["overrides"]["containerOverrides"] if each["name"] == "flow"]
    assert [each["command"] for each in flows] == [["/bin/sh", "-c", "prefect execute flow-run"]]


def test_other_tags_of_a_run_are_kept() -> None:
    launch = build(a_run(ecs(run_task_kwargs={"tags": [{"key": "team", "value": "data"}]})))
    assert tags_of(launch)["team"] == "data"


def test_an_agents_name_is_made_fit_for_a_tag() -> None:
    assert tags_of(build(a_run(), replace(DEFAULTS, agent_name="prod (é)\n#1")))["prefect-agent:name"] == "prod -é---1"


@pytest.mark.parametrize("cluster", ["other", "arn:aws:ecs:eu-west-1:1:cluster/prod", "", ["prod"]])
def test_a_cluster_that_is_not_listed_is_refused_with_the_setting_that_would_list_it(cluster: Any) -> None:
    assert "AGENT_CLUSTERS" in refusal(a_run(ecs(run_task_kwargs={"cluster": cluster})))


@pytest.mark.parametrize("cluster", ["prod", "batch"])
def test_a_run_may_choose_among_the_listed_clusters_and_the_agents_own(cluster: str) -> None:
    defaults = replace(DEFAULTS, allowed_clusters=frozenset({"batch"}))
    assert build(a_run(ecs(run_task_kwargs={"cluster": cluster})), defaults).run_task["cluster"] == cluster


def test_ecs_exec_needs_the_agents_permission() -> None:
    run = a_run(ecs(run_task_kwargs={"enableExecuteCommand": True}))
    assert "AGENT_ALLOW_EXECUTE_COMMAND" in refusal(run)
    assert build(run, replace(DEFAULTS, allow_execute_command=True)).run_task["enableExecuteCommand"] is True
    off = a_run(ecs(run_task_kwargs={"enableExecuteCommand": False}))
    assert build(off).run_task["enableExecuteCommand"] is False


# The key as a secret


def test_with_a_secret_reference_the_definition_carries_the_secret_and_no_environment_the_key() -> None:
    defaults = replace(DEFAULTS, container=BY_REFERENCE, execution_role_arn=ROLE)
    mine = [{"name": name, "value": "mine"} for name in KEY_VARIABLES]
    template = {
        "containerDefinitions": [
            {
                "name": "flow",
                "environment": mine,
                "secrets": [{"name": "DB", "valueFrom": "db"}, {"name": KEY_VARIABLES[0], "valueFrom": "another"}],
            }
        ]
    }
    arguments = {"overrides": {"containerOverrides": [{"name": "flow", "environment": mine}]}}
    launch = build(a_run(ecs(task_definition=template, run_task_kwargs=arguments)), defaults)
    container = definition_of(launch)["containerDefinitions"][0]
    assert {entry["name"]: entry["valueFrom"] for entry in container["secrets"]} == {
        "DB": "db",
        **dict.fromkeys(KEY_VARIABLES, REFERENCE),
    }
    assert not {entry["name"] for entry in container["environment"]} & set(KEY_VARIABLES)
    assert not flow_environment(launch).keys() & set(KEY_VARIABLES)
    assert definition_of(launch)["executionRoleArn"] == launch.run_task["overrides"]["executionRoleArn"] == ROLE


def test_a_secret_without_any_execution_role_is_refused_with_the_setting() -> None:
    message = refusal(a_run(), replace(DEFAULTS, container=BY_REFERENCE))
    assert "AGENT_EXECUTION_ROLE_ARN" in message
    assert "--execution-role-arn" in message


@pytest.mark.parametrize(
    "run_config",
    [
        ecs(execution_role_arn=ROLE),
        ecs(task_definition={**OWN, "executionRoleArn": ROLE}),
        ecs(run_task_kwargs={"overrides": {"executionRoleArn": ROLE}}),
    ],
)
def test_an_execution_role_from_anywhere_in_the_run_serves_the_secret(run_config: dict[str, Any]) -> None:
    launch = build(a_run(run_config), replace(DEFAULTS, container=BY_REFERENCE))
    assert definition_of(launch)["executionRoleArn"] == launch.run_task["overrides"]["executionRoleArn"] == ROLE


def described(*secrets: str) -> dict[str, Any]:
    flow = {"name": "flow", "image": "own:1", "secrets": [{"name": name, "valueFrom": "any"} for name in secrets]}
    return {"taskDefinitionArn": "arn:own:1", "executionRoleArn": ROLE, "containerDefinitions": [flow]}


def test_a_definition_of_the_runs_own_is_used_as_it_stands() -> None:
    launch = build(a_run(ecs(task_definition_arn="own:1")), base=described())
    assert (launch.definition, launch.definition_arn) == (None, "own:1")
    assert launch.run_task["overrides"]["executionRoleArn"] == ROLE


def test_a_definition_of_the_runs_own_that_shows_the_secret_gets_no_key() -> None:
    launch = build(
        a_run(ecs(task_definition_arn="own:1")), replace(DEFAULTS, container=BY_REFERENCE), described(KEY_VARIABLES[0])
    )
    assert not flow_environment(launch).keys() & set(KEY_VARIABLES)


@pytest.mark.parametrize("shown", [(), ("OTHER",), (KEY_VARIABLES[1],)])
def test_a_definition_of_the_runs_own_without_the_secret_is_refused_with_the_lines_to_add(shown: tuple[str]) -> None:
    defaults = replace(DEFAULTS, container=replace(BY_REFERENCE, api_key="pcu_plain"))
    message = refusal(a_run(ecs(task_definition_arn="own:1")), defaults, described(*shown))
    lines = re.search(r'"secrets": (\[.*\])', message)
    assert lines is not None
    assert json.loads(lines[1]) == [{"name": name, "valueFrom": REFERENCE} for name in KEY_VARIABLES]
    assert "pcu_plain" not in message


def test_an_old_container_needs_the_secret_under_the_name_that_it_reads() -> None:
    run = a_run(ecs(task_definition_arn="own:1"), flow=replace(FLOW, core_version="0.14.22"))
    defaults = replace(DEFAULTS, container=BY_REFERENCE)
    assert build(run, defaults, described(KEY_VARIABLES[1])).definition_arn == "own:1"
    assert KEY_VARIABLES[1] in refusal(run, defaults, described(KEY_VARIABLES[0]))


def test_the_plain_key_is_given_to_such_a_definition_where_the_agent_allows_it() -> None:
    run = a_run(ecs(task_definition_arn="own:1"))
    defaults = replace(
        DEFAULTS,
        container=replace(BY_REFERENCE, api_key="pcu_plain"),
        allow_plain_api_key=True,
        execution_role_arn=None,
    )
    assert flow_environment(build(run, defaults, described()))[KEY_VARIABLES[0]] == "pcu_plain"
    nothing_to_give = replace(defaults, container=BY_REFERENCE)
    assert '"secrets"' in refusal(run, nothing_to_give, described())


def test_the_plain_key_never_goes_into_a_definition_that_is_ours() -> None:
    container = replace(BY_REFERENCE, api_key="pcu_plain")
    defaults = replace(DEFAULTS, container=container, allow_plain_api_key=True, execution_role_arn=ROLE)
    launch = build(a_run(), defaults)
    assert "pcu_plain" not in json.dumps([launch.definition, launch.run_task])


# Network and launch type


@pytest.mark.parametrize(
    ("fields", "arguments", "needed"),
    [
        ({}, {}, True),
        ({"launch_type": "FARGATE"}, {}, True),
        ({"launch_type": "EC2"}, {}, False),
        ({"run_task_kwargs": {"capacityProviderStrategy": SPOT}}, {}, False),
        ({"run_task_kwargs": {"capacityProviderStrategy": SPOT}, "launch_type": "FARGATE"}, {}, True),
        ({"run_task_kwargs": {"networkConfiguration": NETWORK}}, {}, False),
        ({}, {"networkConfiguration": NETWORK}, False),
        ({}, {"launchType": "EC2"}, True),
    ],
)
def test_the_default_network_is_wanted_on_fargate_when_nobody_gives_one(
    fields: dict[str, Any], arguments: dict[str, Any], needed: bool
) -> None:
    ecs_run, defaults = EcsRun(run_task_kwargs=arguments), replace(DEFAULTS, **fields)
    assert needs_network(ecs_run, defaults) is needed
    network = NETWORK if needed else None
    launch = build_ecs_launch(a_run(), ecs_run, defaults.task_definition, defaults, network, shape_problems)
    given_one = {**defaults.run_task_kwargs, **arguments}.get("networkConfiguration") is not None
    assert ("networkConfiguration" in launch.run_task) is (needed or given_one)


def test_launch_type_and_capacity_providers_drive_each_other_out() -> None:
    by_spot = replace(DEFAULTS, run_task_kwargs={"capacityProviderStrategy": SPOT})
    plain = build(a_run(ecs(run_task_kwargs={"capacityProviderStrategy": SPOT}))).run_task
    assert (plain.get("launchType"), plain["capacityProviderStrategy"]) == (None, SPOT)
    turned = build(a_run(ecs(run_task_kwargs={"launchType": "EC2"})), by_spot).run_task
    assert (turned["launchType"], turned.get("capacityProviderStrategy")) == ("EC2", None)
    definition = definition_of(build(a_run(), by_spot))
    assert "requiresCompatibilities" not in definition


# What cannot be launched


@pytest.mark.parametrize("kind", ["KubernetesRun", "DockerRun", "LocalRun", "Mystery", None, 5, "x" * 999])
def test_a_run_config_of_another_type_is_refused_in_prefects_words(kind: Any) -> None:
    message = refusal(a_run({"type": kind}))
    assert "Flow run run-1 has a `run_config` of type `" in message
    assert "only `ECSRun` is supported" in message
    assert len(message) < 400


def test_all_problems_of_a_run_config_are_told_at_once() -> None:
    message = refusal(
        a_run(ecs(image=5, cpu=1024, env={"PORT": 80, "KEY": None}, task_definition=[], task_definition_arn=""))
    )
    for part in (
        "image is a number",
        "cpu is a number",
        "PORT is a number",
        "KEY is null",
        "task_definition is a list",
    ):
        assert part in message
    assert "task_definition_arn is empty" in message
    assert "only one of task_definition" in message


@pytest.mark.parametrize(
    ("run_config", "told"),
    [
        (ecs(env={"A": "x\0y"}), "env: A has a NUL"),
        (ecs(env={"A\0": "x"}), "is not a usable name"),
        (ecs(env={"": "x"}), "is not a usable name"),
        (ecs(task_definition={"containerDefinitions": {}}), "containerDefinitions is an object, not a list"),
        (ecs(task_definition={"containerDefinitions": [{}]}), "containerDefinitions[0] has no name"),
        (ecs(task_definition={"containerDefinitions": ["flow"]}), "containerDefinitions[0] is text, not an object"),
        (
            ecs(task_definition={"containerDefinitions": [{"name": "a", "environment": [{"name": "X", "value": 1}]}]}),
            "containerDefinitions[0].environment[0].value is a number, not text",
        ),
        (
            ecs(task_definition={"containerDefinitions": [{"name": "a", "environment": [{"value": "1"}]}]}),
            "containerDefinitions[0].environment[0] has no name",
        ),
        (ecs(task_definition={"volumes": [{"name": None}]}), "volumes[0].name is null"),
        (ecs(task_definition={"cpu": None}), "cpu is null"),
        (ecs(task_definition={"tags": {"a": "b"}}), "tags is an object, not a list"),
        (ecs(task_definition={"containerDefinitions": [{"name": "flow", "image": ""}]}), "[0].image is empty"),
        (ecs(task_definition={"containerDefinitions": [{"name": "flow", "image": None}]}), "[0].image is null"),
        (ecs(task_definition={"containerDefinitions": [{"imag": "x"}]}), "[0] has no field imag: did you mean image?"),
        (
            ecs(task_definition={"containerDefinitions": [{"name": "a", "logConfiguration": {}}]}),
            "containerDefinitions[0].logConfiguration has no logDriver",
        ),
        (
            ecs(
                task_definition={"containerDefinitions": [{"name": "a", "environment": [{"name": "X", "value": "\0"}]}]}
            ),
            "containerDefinitions[0].environment[0]: X has a NUL",
        ),
        (ecs(task_definition={"status": "ACTIVE"}), "RegisterTaskDefinition has no argument status: leave it out"),
        (ecs(run_task_kwargs={"Count": 2}), "RunTask has no argument Count: did you mean count?"),
        (ecs(run_task_kwargs={"tags": [{"value": "x"}]}), "tags[0] has no key"),
        (
            ecs(run_task_kwargs={"capacityProviderStrategy": [{"capacityProvider": "x", "weight": -1}]}),
            "capacityProviderStrategy[0].weight has an invalid range, less than 0",
        ),
        (ecs(run_task_kwargs={"taskDefinition": "x"}), "use the run config's task_definition_arn"),
        (ecs(run_task_kwargs={"overrides": []}), "overrides is a list, not an object"),
        (ecs(run_task_kwargs={"overrides": {"containerOverrides": [{"cpu": 1}]}}), "containerOverrides[0] has no name"),
        (ecs(run_task_kwargs={"launchType": "EC2", "capacityProviderStrategy": SPOT}), "exclude each other"),
        (ecs(run_task_kwargs={"group": None}), "group is null"),
        ("text", "the run config is text, not an object"),
        (ecs(task_definition_arn="own:1", image="x"), "image cannot be given beside task_definition_arn"),
    ],
)
def test_a_malformed_request_is_refused_with_the_place_of_the_fault(run_config: Any, told: str) -> None:
    assert told in refusal(a_run(run_config))


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"image_name": "etl"}, "image_tag is missing"),
        ({"image_tag": "v1"}, "image_name is missing"),
        ({"image_name": 5, "image_tag": "v1"}, "image_name is a number"),
    ],
)
def test_docker_storage_without_an_image_is_refused(parts: dict[str, Any], told: str) -> None:
    assert told in refusal(a_run(flow=replace(FLOW, storage={"type": "Docker", **parts})))


def test_docker_storage_says_the_image() -> None:
    storage = {"type": "Docker", "registry_url": "reg.io/team/", "image_name": "etl", "image_tag": "v1"}
    launch = build(a_run(ecs(image="other:1"), flow=replace(FLOW, storage=storage)))
    assert definition_of(launch)["containerDefinitions"][0]["image"] == "reg.io/team/etl:v1"
    assert "Cannot provide `task_definition_arn` when using `Docker` storage" in refusal(
        a_run(ecs(task_definition_arn="own:1"), flow=replace(FLOW, storage=storage)), base=described()
    )


def test_a_definition_of_the_runs_own_needs_the_flow_container() -> None:
    other = {"containerDefinitions": [{"name": "main"}]}
    assert "no container named 'flow'" in refusal(a_run(ecs(task_definition_arn="own:1")), base=other)


def test_overrides_that_ecs_would_not_take_are_refused_with_the_names_of_the_largest_variables() -> None:
    message = refusal(a_run(ecs(env={"BIG": "sekret" * 1000, "BIGGER": "sekret" * 2000, "SMALL": "x"})))
    assert re.search(r"overrides have 1[89]\d{3} characters, ECS takes 8192", message)
    assert "BIGGER, BIG" in message
    assert "sekret" not in message


def test_overrides_of_exactly_8192_characters_are_taken() -> None:
    def with_value(length: int) -> FlowRun:
        return a_run(ecs(env={"A": "ü" * length}))

    empty = json.dumps(build(with_value(0)).run_task["overrides"], separators=(",", ":"))
    room = 8192 - len(empty)
    assert flow_environment(build(with_value(room)))["A"] == "ü" * room
    assert "have 8193 characters" in refusal(with_value(room + 1))


@given(st.dictionaries(st.sampled_from(["env", "cpu", "task_definition", "run_task_kwargs", "image"]), JSON))
def test_whatever_stands_in_a_run_config_it_is_launched_or_refused(fields: dict[str, Any]) -> None:
    try:
        launch = build(a_run(ecs(**fields)))
    except UnsupportedRun as error:
        assert "\x00" not in str(error)
        assert str(error)
    else:
        assert launch.run_task["startedBy"] == "prefect/run-1"


def test_a_document_nested_without_end_is_a_refusal_not_a_crash() -> None:
    deep: Any = {}
    for _ in range(900):
        deep = {"a": deep}
    assert "no argument deep" in refusal(a_run(ecs(task_definition={**OWN, "deep": deep})))


def test_all_problems_of_the_agents_own_documents_are_told_with_their_settings() -> None:
    with pytest.raises(SettingsError) as caught:
        EcsDefaults(container=SERVER, task_definition={"cpu": None}, run_task_kwargs={"x": 1}).validate(shape_problems)
    assert [problem.split()[:2] for problem in caught.value.problems] == [
        ["--task-definition:", "cpu"],
        ["--run-task-kwargs:", "ECS's"],
    ]
    DEFAULTS.validate(shape_problems)


@given(st.sampled_from(["containerDefinitions", "tags", "volumes", "cpu"]), JSON.map(lambda inner: [inner, "sekret"]))
def test_what_is_wrong_with_a_shape_is_told_without_the_value(field: str, value: Any) -> None:
    problems = shape_problems("RegisterTaskDefinition", {field: value, "family": {"sekret": "sekret"}})
    assert "family is an object, not text" in problems
    assert any(problem.startswith(field) for problem in problems)
    assert not any("sekret" in problem for problem in problems)


def test_a_part_of_a_request_may_lack_what_the_whole_must_have() -> None:
    assert shape_problems("RunTask", {"group": "g"}) == shape_problems("RegisterTaskDefinition", {}) == []
