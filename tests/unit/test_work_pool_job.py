"""Runs of Kubernetes work pools, and the Jobs that they become."""

from __future__ import annotations

import re
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.builders.kubernetes_defaults import SecretKey
from chalicelib.builders.kubernetes_job import (
    AGENT_ANNOTATION,
    IDENTIFIER_LABEL,
    LAUNCH_KEY_ANNOTATION,
    KubernetesLaunch,
    job_name,
    with_key,
)
from chalicelib.builders.kubernetes_labels import label_key, label_value
from chalicelib.builders.work_pool_container import WorkPoolContainer
from chalicelib.builders.work_pool_job import WorkPoolJobDefaults, build_work_pool_job
from chalicelib.errors import UnsupportedRun
from chalicelib.flow_runs import Flow, FlowRun, WorkPoolJob
from tests.oracle.kubernetes_schema import schema_problem
from tests.oracle.work_pool_job_cases import ABSENT, BEHAVIOR, FIELD_REF, Json, changed, default_template
from tests.oracle.work_pool_job_generated_cases import cases

RUN, KEY = "10000000-0000-4000-8000-000000000001", "20000000-0000-4000-8000-000000000002"
NAMED = "is named by job variables alone"


def run_of(variables: Json, run_variables: Json, template: Json) -> FlowRun:
    deployment = {"id": "d", "name": "nightly", "job_variables": variables}
    job = WorkPoolJob(
        {"id": "p", "name": "pool", "type": "kubernetes", "base_job_template": template},
        {"id": RUN, "name": "happy-otter", "deployment_id": "d", "job_variables": run_variables},
        deployment,
    )
    return FlowRun(RUN, "happy-otter", 1, datetime(2026, 1, 1, tzinfo=UTC), Flow("f", "My Flow"), job=job)


def build(
    variables: Json | None = None,
    run_variables: Json | None = None,
    template: Json | None = None,
    container: Json | None = None,
    **settings: Any,
) -> KubernetesLaunch:
    told = WorkPoolContainer(
        **{"api_url": "http://prefect/api", "agent_name": "east", "image": "img:3", **(container or {})}
    )
    run = run_of(variables or {}, run_variables or {}, template or default_template())
    return build_work_pool_job(run, WorkPoolJobDefaults(told, **settings))


def container_of(launch: KubernetesLaunch) -> Json:
    container: Json = launch.job["spec"]["template"]["spec"]["containers"][0]
    return container


def env_of(launch: KubernetesLaunch) -> Json:
    """What each variable is, by name; each is there once."""
    env = container_of(launch)["env"]
    assert len({entry["name"] for entry in env}) == len(env)
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in env}


def refusal(*arguments: Any, **settings: Any) -> str:
    with pytest.raises(UnsupportedRun) as caught:
        build(*arguments, **settings)
    return str(caught.value)


# the whole


def test_a_run_of_the_default_pool_runs_prefect_in_a_job_of_the_default_namespace() -> None:
    launch = build()
    assert launch.namespace == launch.job["metadata"]["namespace"] == "default"
    assert container_of(launch)["args"] == ["prefect", "flow-run", "execute"]
    assert container_of(launch)["image"] == "img:3"
    assert launch.job["spec"]["backoffLimit"] == 0
    assert env_of(launch)["PREFECT_API_URL"] == "http://prefect/api"
    assert env_of(launch)["PREFECT__FLOW_RUN_ID"] == RUN


def test_job_and_pod_are_labelled_as_prefects_own_worker_does_it() -> None:
    job = build({"labels": {"Our Team": "Data & Friends"}}).job
    for described in (job, job["spec"]["template"]):
        labels = described["metadata"]["labels"]
        assert labels["prefect.io/flow-run-id"] == RUN
        assert labels["prefect.io/flow-name"] == "My-Flow"
        assert labels["prefect.io/worker-name"] == "east"
        assert labels["app.kubernetes.io/name"] == "nightly"
        assert labels["Our-Team"] == "Data-Friends"
        assert described["metadata"]["annotations"] == {AGENT_ANNOTATION: "east"}


def test_the_key_names_the_job_and_stands_on_job_and_pod() -> None:
    job = with_key(build({"name": "mine"}, template=changed(metadata={"name": "fixed"})).job, KEY)
    assert job["metadata"]["name"] == job_name(KEY)
    assert "generateName" not in job["metadata"]
    assert job["metadata"]["annotations"][LAUNCH_KEY_ANNOTATION] == KEY
    assert job["spec"]["template"]["metadata"]["annotations"][LAUNCH_KEY_ANNOTATION] == KEY


def test_no_agent_of_prefect_1_takes_the_job_for_its_own() -> None:
    job = with_key(build().job, KEY)
    assert IDENTIFIER_LABEL not in job["metadata"]["labels"]
    assert "prefect.io/flow_run_id" not in job["metadata"]["labels"]


@pytest.mark.parametrize("name", ["prefect.io/flow-run-id", " prefect.io/flow-run-id", "prefect.io/flow-run-id!"])
def test_the_label_by_which_a_job_is_found_cannot_be_written_over(name: str) -> None:
    for template in (
        default_template(),
        changed(metadata={"labels": ABSENT}),
        changed(metadata={"labels": {name: "x"}}),
    ):
        job = build({"labels": {name: "other"}}, template=template).job
        assert job["metadata"]["labels"]["prefect.io/flow-run-id"] == RUN


@pytest.mark.parametrize("name", [AGENT_ANNOTATION, f"{AGENT_ANNOTATION} "])
def test_the_annotation_of_the_agent_cannot_be_written_over(name: str) -> None:
    for template in (default_template(), changed(metadata={"annotations": {AGENT_ANNOTATION: "x"}})):
        job = build({"annotations": {name: "other"}}, template=template).job
        assert job["metadata"]["annotations"][AGENT_ANNOTATION] == "east"


def test_a_template_that_says_nothing_of_it_gets_the_agents_time_to_live() -> None:
    assert build(ttl_seconds_after_finished=300).job["spec"]["ttlSecondsAfterFinished"] == 300
    assert build({"finished_job_ttl": 5}, ttl_seconds_after_finished=300).job["spec"]["ttlSecondsAfterFinished"] == 5


def test_the_api_is_to_drop_what_no_job_has_as_it_stands_in_every_default_template() -> None:
    assert build().field_validation == "Warn"
    assert build().has_own_template


@given(cases())
def test_whatever_is_written_becomes_a_job_by_the_schema_or_is_refused_and_stays_as_it_was(case: Any) -> None:
    template = deepcopy(case.template)
    variables, run_variables = deepcopy(case.variables), deepcopy(case.run_variables)
    try:
        launch = build(variables, run_variables, template, allowed_namespaces=frozenset({"flows"}))
    except UnsupportedRun as refused:
        assert str(refused)
    else:
        problem = schema_problem(with_key(launch.job, KEY), strict=False)
        # A value of theirs that no part of ours looks at is left to Kubernetes, whose answer names it.
        assert "'soon'" in problem or not re.search("is not of type|required", problem)
        assert launch.namespace in ("default", "flows", "elsewhere")
    assert (template, variables, run_variables) == (case.template, case.variables, case.run_variables)


# namespaces


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({"namespace": "flows"}, "flows"),
        ({"allowed_namespaces": frozenset({"a", "b"})}, "b"),
        ({"namespace": "flows"}, "default"),
    ],
)
def test_job_variables_may_name_what_the_agent_allows_and_what_is_the_pools_own(settings: Json, asked: str) -> None:
    assert build({"namespace": asked}, **settings).namespace == asked
    assert build({}, {"namespace": asked}, **settings).namespace == asked


def test_a_pool_may_name_any_namespace() -> None:
    assert build(template=changed(defaults={"namespace": "elsewhere"})).namespace == "elsewhere"
    assert build(template=changed(configuration={"namespace": "x"}, metadata={"namespace": "x"})).namespace == "x"


def test_a_namespace_that_job_variables_alone_name_is_refused() -> None:
    assert refusal({"namespace": "kube-system"}).startswith(f"namespace kube-system {NAMED}")
    assert NAMED in refusal({}, {"namespace": "kube-system"})
    assert NAMED in refusal(
        {"namespace": "default"}, template=changed(defaults={"namespace": "elsewhere"}), namespace="o"
    )


def test_job_variables_cannot_name_it_in_a_roundabout_way_either() -> None:
    template = changed(configuration={"namespace": "{{ image }}"}, metadata={"namespace": "{{ image }}"})
    assert NAMED in refusal({"image": "kube-system"}, template=template)
    assert "metadata.namespace" in refusal(
        {"image": "kube-system"}, template=changed(metadata={"namespace": "{{ image }}"})
    )


# bad templates and variables


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"configuration": {"job_manifest": ABSENT}}, "job_manifest is null"),
        ({"manifest": {"spec": "text"}}, r"spec.template.spec.containers[0] is missing"),
        ({"pod": {"containers": ["x"]}}, r"spec.template.spec.containers[0] is missing"),
        ({"container": {"name": "flow"}}, "containers[0].name is not prefect-job"),
        ({"pod": {"restartPolicy": "Always"}}, "restartPolicy is not Never"),
        ({"manifest": {"kind": "Pod"}}, "kind is not Job"),
        ({"metadata": {"namespace": "other"}}, "metadata.namespace"),
        ({"metadata": {"labels": {"a": 5}}}, "metadata.labels.a is a number"),
        ({"spec": {"parallelism": 2}}, "spec.parallelism is not 1"),
        ({"container": {"args": 5}}, "containers[0].args is a number"),
        ({"container": {"image": ""}}, "containers[0].image is empty"),
        ({"container": {"env": [{"value": "x"}]}}, "env[8] has no name"),
        ({"container": {"env": ["x"]}}, "containers[0].env[0] is text"),
        ({"configuration": {"annotations": "x"}}, "annotations is text"),
        ({"configuration": {"namespace": 5}}, "namespace is a number"),
        ({"configuration": {"env": ["A=1"]}}, "env is a list, but not one of objects that have a name"),
    ],
)
def test_a_bad_template_is_refused_by_the_name_of_the_field(parts: Json, named: str) -> None:
    assert named in refusal(template=changed(**parts))


def test_a_command_whose_quotes_do_not_match_is_refused() -> None:
    assert "quotes" in refusal({"command": "python 'x"})


def test_a_run_of_no_pool_is_refused() -> None:
    run = FlowRun(RUN, "r", 1, datetime(2026, 1, 1, tzinfo=UTC), Flow("f", "flow"))
    with pytest.raises(UnsupportedRun, match="no work pool"):
        build_work_pool_job(run, WorkPoolJobDefaults(WorkPoolContainer("http://prefect/api")))


# the environment


def test_variables_keep_their_order_as_one_may_be_made_of_another() -> None:
    names = [entry["name"] for entry in container_of(build({"env": {"Z": "1", "B": "$(Z)", "A": "$(B)"}}))["env"]]
    assert [name for name in names if len(name) == 1] == ["Z", "B", "A"]


def test_what_kubernetes_fills_in_is_not_given_in_plain_as_well() -> None:
    own = {"secretKeyRef": {"name": "s", "key": "k"}}
    env = env_of(build({"env": [{"name": "PREFECT_API_KEY", "valueFrom": own}]}, container={"api_key": "plain"}))
    assert env["PREFECT_API_KEY"] == own


def test_the_key_comes_from_the_secret_that_the_agent_names() -> None:
    for told in ({"api_key": "plain"}, {"secret_reference": "arn:aws:secretsmanager:x"}, {}):
        env = env_of(build(container=told, api_key_secret=SecretKey("prefect", "key")))
        assert env["PREFECT_API_KEY"] == {"secretKeyRef": {"name": "prefect", "key": "key"}}
        assert "plain" not in str(env)


def test_an_auth_string_comes_from_that_secret_under_its_own_name() -> None:
    env = env_of(build(container={"auth_string": "user:plain"}, api_key_secret=SecretKey("prefect", "key")))
    assert "secretKeyRef" in env["PREFECT_API_AUTH_STRING"]
    assert "PREFECT_API_KEY" not in env
    assert "plain" not in str(env)


def test_a_run_may_do_without_the_key() -> None:
    env = env_of(build({"env": {"PREFECT_API_KEY": None}}, api_key_secret=SecretKey("prefect", "key")))
    assert "PREFECT_API_KEY" not in env


def test_a_key_that_only_aws_can_look_up_is_refused_unless_it_may_go_in_plain() -> None:
    told = {"secret_reference": "arn:aws:secretsmanager:x", "api_key": "plain"}
    assert "AGENT_API_KEY_SECRET" in refusal(container=told)
    assert env_of(build(container={**told, "allow_plain_api_key": True}))["PREFECT_API_KEY"] == "plain"


@pytest.mark.parametrize(
    ("variables", "behavior"),
    [
        ({}, "reschedule"),
        ({"env": {BEHAVIOR: "own"}}, "own"),
        ({"env": {BEHAVIOR: "own"}, "backoff_limit": 1}, "relinquish"),
        ({"env": [FIELD_REF], "backoff_limit": None}, "relinquish"),
        ({"env": [{"name": BEHAVIOR, "value": ""}]}, "reschedule"),
    ],
)
def test_a_flow_that_is_ended_leaves_the_run_to_the_jobs_next_pod_if_there_is_one(
    variables: Json, behavior: str
) -> None:
    assert env_of(build(variables))[BEHAVIOR] == behavior


# labels


@given(st.text(max_size=90))
def test_any_text_becomes_the_value_of_a_label(text: str) -> None:
    assert re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", label_value(text))
    assert label_value(label_value(text)) == label_value(text)


@given(st.from_regex(r"([A-Za-z0-9.-]{0,9}/)?[A-Za-z0-9]([A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", fullmatch=True))
def test_what_may_be_the_name_of_a_label_stays_it(text: str) -> None:
    prefix, _, name = text.rpartition("/")
    assert label_key(text).rpartition("/")[2] == name
    if re.fullmatch(r"[a-z0-9]+", prefix):
        assert label_key(text) == text


def test_letters_with_marks_lose_them_and_others_are_left_out() -> None:
    assert label_value("Größe, été & Ørsted") == "Grosse-ete-Orsted"
    assert label_value("日本") == ""
    assert label_key("日本") == "日本", "for Kubernetes to refuse"
