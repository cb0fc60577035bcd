"""Flow runs made into the manifests of Kubernetes Jobs."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.builders.flow_container import KEY_VARIABLES, ContainerSettings
from chalicelib.builders.kubernetes_defaults import KubernetesDefaults, SecretKey
from chalicelib.builders.kubernetes_job import LAUNCH_KEY_ANNOTATION, build_job, job_name, with_key
from chalicelib.builders.run_configs import read_kubernetes_run
from chalicelib.errors import SettingsError, UnsupportedRun
from chalicelib.flow_runs import Flow, FlowRun, TaskRun, launch_key
from tests.oracle.kubernetes_cases import ALIKE, FLOW, Case, job, kubernetes, of_the_run
from tests.oracle.kubernetes_generated_cases import cases
from tests.oracle.kubernetes_schema import NEWEST, OLDEST, schema_problem

KEY = "bbbbbbbb-0000-4000-8000-00000000000f-3"
ARN = "arn:aws:secretsmanager:eu-west-1:1:secret:key"
SECRET = SecretKey("prefect", "api-key")
SERVER = ContainerSettings(api_url="http://prefect:4200")
DEFAULTS = KubernetesDefaults(container=SERVER, agent_name="nightly (é)")
A_FLOW = Flow("flow-1", "etl", version=4, core_version="1.4.1", storage={"type": "S3", "bucket": "b"})

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.builds(
    lambda run, version, due: launch_key(replace(a_run(), id=str(run), version=version, due_task_runs=due)),
    st.uuids(),
    st.integers(1, 10**9),
    st.lists(
        st.builds(lambda task, version: TaskRun(str(task), version), st.uuids(), st.integers(1, 10**9)), max_size=1
    ).map(tuple),
)


def a_run(run_config: Any = None, flow: Flow = A_FLOW) -> FlowRun:
    started = datetime(2026, 1, 1, tzinfo=UTC)
    return FlowRun("run-1", "owl", 3, started, flow, run_config=run_config, tenant_id="tenant-1")


def build(run_config: Any = None, defaults: KubernetesDefaults = DEFAULTS, flow: Flow = A_FLOW) -> dict[str, Any]:
    run = a_run(run_config, flow)
    asked = read_kubernetes_run(run)
    return build_job(run, asked, asked.job_template or defaults.job_template, defaults)


def refusal(run_config: Any = None, defaults: KubernetesDefaults = DEFAULTS, flow: Flow = A_FLOW) -> str:
    with pytest.raises(UnsupportedRun) as caught:
        build(run_config, defaults, flow)
    return str(caught.value)


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return pod


def container_of(manifest: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = pod_of(manifest)["containers"][0]
    return container


def env_of(manifest: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container_of(manifest)["env"]}


# The plain case


def test_a_run_without_a_run_config_becomes_a_job_of_prefects_own_image() -> None:
    manifest = build()
    env = container_of(manifest).pop("env")
    labels = {"prefect.io/flow_run_id": "run-1", "prefect.io/flow_id": "flow-1"}
    metadata = {"labels": labels, "annotations": {"prefect-agent/name": "nightly (é)"}}
    container = {
        "name": "flow",
        "image": "prefecthq/prefect:1.4.1",
        "args": ["prefect", "execute", "flow-run"],
        "resources": {"requests": {}, "limits": {}},
    }
    assert manifest == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,
            "template": {"metadata": metadata, "spec": {"containers": [container], "restartPolicy": "Never"}},
        },
    }
    values = {entry["name"]: entry["value"] for entry in env}
    assert values["PREFECT__CONTEXT__FLOW_RUN_ID"] == "run-1"
    assert values["PREFECT__CONTEXT__IMAGE"] == "prefecthq/prefect:1.4.1"
    assert values["PREFECT__CLOUD__API"] == "http://prefect:4200"


def test_a_key_completes_the_manifest_on_job_and_pod_and_leaves_the_first_as_it_was() -> None:
    manifest = build(of_the_run(FLOW, metadata={"name": "x" * 300}))
    before = json.dumps(manifest)
    named = with_key(manifest, KEY)
    assert json.dumps(manifest) == before
    assert "name" not in manifest["metadata"]
    assert named["metadata"]["name"] == f"prefect-job-{KEY}"
    for described in (named, named["spec"]["template"]):
        assert described["metadata"]["annotations"][LAUNCH_KEY_ANNOTATION] == KEY
        assert re.fullmatch("[0-9a-f]{8}", described["metadata"]["labels"]["prefect.io/identifier"])
    assert with_key(manifest, KEY) == named
    other = with_key(manifest, KEY + "4")
    assert other["metadata"]["labels"] != named["metadata"]["labels"]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (KEY, f"prefect-job-{KEY}"),
        (f"{KEY}-0123abcd-123", f"prefect-job-{KEY}-0123abcd-123"),
        (f"{KEY}-0123abcd-1234", "prefect-job-bbbbbbbb-0000-4000-8000-00000000000f-[0-9a-f]{14}"),
        ("Not_a-key", "prefect-job-not-a-key-[0-9a-f]{14}"),
    ],
)
def test_a_job_is_named_by_its_key_and_by_a_hash_only_where_that_does_not_fit(key: str, name: str) -> None:
    assert re.fullmatch(name, job_name(key))
    assert len(job_name(key)) <= 63


@given(KEYS | st.text(max_size=80), KEYS | st.text(max_size=80))
def test_a_jobs_name_is_a_dns_label_that_tells_keys_apart(one: str, other: str) -> None:
    names = [job_name(one), job_name(other)]
    assert all(re.fullmatch("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name) for name in names)
    assert (names[0] == names[1]) == (one == other)


# Valid and untouched


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_manifest_of_the_table_is_valid_by_the_published_schema(version: str) -> None:
    built = [manifest for case in ALIKE if (manifest := build_case(case)) is not None]
    assert len(built) > 40
    assert [schema_problem(manifest, version) for manifest in built if schema_problem(manifest, version)] == []


def build_case(case: Case, defaults: KubernetesDefaults = DEFAULTS) -> dict[str, Any] | None:
    try:
        return with_key(build(case.run_config, defaults), KEY)
    except UnsupportedRun:
        return None


@given(cases(), st.sampled_from([None, SECRET]), st.sampled_from([None, 0, 3600]))
def test_every_manifest_that_is_built_is_valid_by_the_published_schema(
    case: Case, secret: SecretKey | None, ttl_seconds: int | None
) -> None:
    defaults = replace(DEFAULTS, api_key_secret=secret, ttl_seconds_after_finished=ttl_seconds)
    manifest = build_case(case, defaults)
    assert manifest is None or schema_problem(manifest) == ""


@given(cases())
def test_the_same_input_gives_the_same_bytes_and_is_left_as_it_was(case: Case) -> None:
    defaults = replace(DEFAULTS, job_template=case.agent.get("job_template_path", DEFAULTS.job_template))
    before = json.dumps([case.run_config, defaults.job_template])
    texts = {json.dumps(build_case(case, defaults)) for _ in range(2)}
    assert len(texts) == 1
    assert json.dumps([case.run_config, defaults.job_template]) == before


def test_two_containers_that_a_yaml_alias_made_one_are_two_in_the_job() -> None:
    shared: dict[str, Any] = {"limits": {"cpu": "1"}}
    containers = [{"name": "flow", "resources": shared}, {"name": "proxy", "image": "p:1", "resources": shared}]
    manifest = build({**of_the_run(*containers), "cpu_limit": "4"})
    assert [each["resources"]["limits"]["cpu"] for each in pod_of(manifest)["containers"]] == ["4", "1"]


# Who wins


POLICY = "imagePullPolicy"


@pytest.mark.parametrize(
    ("asked", "of_the_runs_template", "of_the_agent", "of_the_agents_template", "effective"),
    [
        ("Always", "Never", "Never", "Never", "Always"),
        (None, "Always", "Never", "Never", "Always"),
        (None, None, "Always", "Never", "Always"),
        (None, None, None, "Always", "Always"),
        (None, None, None, None, None),
    ],
)
def test_a_run_config_is_stronger_than_its_template_that_than_the_agent_and_that_than_the_agents_template(
    asked: str | None,
    of_the_runs_template: str | None,
    of_the_agent: str | None,
    of_the_agents_template: str | None,
    effective: str | None,
) -> None:
    def with_policy(policy: str | None) -> dict[str, Any]:
        return job({**FLOW, **({POLICY: policy} if policy else {})})

    template = with_policy(of_the_runs_template) if of_the_runs_template else None
    defaults = replace(DEFAULTS, image_pull_policy=of_the_agent, job_template=with_policy(of_the_agents_template))
    manifest = build(kubernetes(image_pull_policy=asked, job_template=template), defaults)
    assert container_of(manifest).get(POLICY) == effective


@pytest.mark.parametrize(("of_the_template", "effective"), [({}, 0), ({"backoffLimit": 3}, 3)])
def test_a_pod_that_crashed_is_not_replaced_unless_the_template_says_so(
    of_the_template: dict[str, int], effective: int
) -> None:
    assert build(of_the_run(FLOW, **of_the_template))["spec"]["backoffLimit"] == effective


@pytest.mark.parametrize(("of_the_template", "effective"), [({}, 60), ({"ttlSecondsAfterFinished": 0}, 0)])
def test_a_finished_job_is_kept_as_long_as_the_template_says_else_the_agent(
    of_the_template: dict[str, Any], effective: int
) -> None:
    defaults = replace(DEFAULTS, ttl_seconds_after_finished=60)
    assert build(of_the_run(FLOW, **of_the_template), defaults)["spec"]["ttlSecondsAfterFinished"] == effective
    assert "ttlSecondsAfterFinished" not in build(of_the_run(FLOW))["spec"]


def test_variables_that_only_the_template_has_stand_last_in_its_order_so_that_they_can_refer_to_ours() -> None:
    names = [entry["name"] for entry in container_of(build({**of_the_run(FLOW), "env": {"A": "run"}}))["env"]]
    assert names[-2:] == ["Z", "FROM"]
    assert names[:-2] == sorted(names[:-2])


# The key


def test_with_a_kubernetes_secret_both_keys_come_from_it_and_nothing_plain_enters() -> None:
    mine = [{"name": name, "value": "mine"} for name in KEY_VARIABLES]
    container = replace(SERVER, api_key="pcu_plain", auth_token="plain", secret_reference=ARN)
    defaults = replace(DEFAULTS, container=container, api_key_secret=SECRET, allow_plain_api_key=True)
    manifest = build({**of_the_run({**FLOW, "env": mine}), "env": {KEY_VARIABLES[0]: "mine"}}, defaults)
    source = {"secretKeyRef": {"name": "prefect", "key": "api-key"}}
    assert {name: env_of(manifest)[name] for name in KEY_VARIABLES} == dict.fromkeys(KEY_VARIABLES, source)
    assert env_of(manifest)["PREFECT__CLOUD__TENANT_ID"] == "tenant-1"
    names = [entry["name"] for entry in container_of(manifest)["env"]]
    assert len(names) == len(set(names))
    assert not re.search("plain|mine|arn:", json.dumps(manifest))


def test_a_key_that_only_aws_can_look_up_is_refused_with_what_to_set() -> None:
    container = replace(SERVER, secret_reference=ARN, api_key="pcu_plain")
    message = refusal(defaults=replace(DEFAULTS, container=container))
    assert "AGENT_API_KEY_SECRET" in message
    assert "AGENT_ALLOW_PLAIN_API_KEY" in message
    assert "pcu_plain" not in message
    allowed = replace(DEFAULTS, container=container, allow_plain_api_key=True)
    assert env_of(build(defaults=allowed))[KEY_VARIABLES[0]] == "pcu_plain"
    nothing_to_give = replace(allowed, container=replace(container, api_key=""))
    assert "AGENT_API_KEY_SECRET" in refusal(defaults=nothing_to_give)


def test_a_key_that_was_given_as_it_is_is_passed_on_as_it_is() -> None:
    manifest = build(defaults=replace(DEFAULTS, container=replace(SERVER, api_key="pcu_plain")))
    assert {env_of(manifest)[name] for name in KEY_VARIABLES} == {"pcu_plain"}


# What cannot be launched


@pytest.mark.parametrize("kind", ["ECSRun", "DockerRun", "Mystery", None, 5, "x" * 999])
def test_a_run_config_of_another_type_is_refused_in_prefects_words(kind: Any) -> None:
    message = refusal({"type": kind})
    assert "Flow run run-1 has a `run_config` of type `" in message
    assert "only `KubernetesRun` is supported" in message
    assert len(message) < 400


def test_all_problems_of_a_run_config_are_told_at_once() -> None:
    message = refusal(
        kubernetes(
            image="",
            cpu_limit=2,
            memory_limit="2 GB",
            env={"PORT": 80, "NUL": "\0"},
            job_template=[],
            job_template_path="s3://b/k",
            image_pull_secrets=["", 1],
            image_pull_policy="sometimes",
            service_account_name=["a"],
        )
    )
    for told in (
        "image is empty",
        "cpu_limit is a number, not text",
        "memory_limit is no quantity",
        "PORT is a number",
        "NUL has a NUL",
        "job_template is a list, not an object",
        "only one of job_template, job_template_path",
        "image_pull_secrets[0] is empty",
        "image_pull_secrets[1] is a number",
        "image_pull_policy is none of Always, IfNotPresent, Never",
        "service_account_name is a list, not text",
    ):
        assert told in message


@pytest.mark.parametrize(
    "quantity", ["1", "+1", "0.5", ".5", "5.", "500m", "1Gi", "1.5Ki", "1e3", "1E-3", "100k", "1E"]
)
def test_quantities_are_taken_as_kubernetes_writes_them(quantity: str) -> None:
    assert container_of(build(kubernetes(cpu_limit=quantity)))["resources"]["limits"] == {"cpu": quantity}


@pytest.mark.parametrize("quantity", ["2 vcpu", "1GB", "1gi", "-1", "one", ".", "1 ", "1\n", "٣", "1e", "1K"])
def test_what_kubernetes_does_not_take_for_a_quantity_is_refused(quantity: str) -> None:
    assert "memory_request is no quantity" in refusal(kubernetes(memory_request=quantity))


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ({"kind": "Job"}, "spec.template.spec.containers is missing"),
        ({"spec": {"template": None}}, "spec.template.spec.containers is missing"),
        (job(), "spec.template.spec.containers is missing or empty"),
        ({**job(FLOW), "kind": "CronJob"}, "kind is not Job"),
        ({**job(FLOW), "apiVersion": "batch/v1beta1"}, "apiVersion is not batch/v1"),
        ({**job(FLOW), "spec": []}, "spec is a list, not an object"),
        (job(FLOW, metadata="x"), "metadata is text, not an object"),
        (job(FLOW, pod_metadata={"labels": []}), "spec.template.metadata.labels is a list, not an object"),
        (job(FLOW, metadata={"labels": {"team": 5}}), "metadata.labels.team is a number, not text"),
        (job(FLOW, metadata={"labels": {"team": "Müller"}}), "metadata.labels: team is no label"),
        (job(FLOW, pod_metadata={"labels": {"t": "x" * 64}}), "spec.template.metadata.labels: t is no label"),
        (job(FLOW, metadata={"labels": {"a b": "x"}}), "metadata.labels: a b is no label"),
        (job(FLOW, metadata={"labels": {"a": "x\n"}}), "metadata.labels: a is no label"),
        (job(FLOW, metadata={"annotations": {"a": {}}}), "metadata.annotations.a is an object, not text"),
        (job(FLOW, metadata={"namespace": "other"}), "metadata.namespace is not the one"),
        (job(FLOW, parallelism=2), "spec.parallelism is not 1"),
        (job(FLOW, completions=0), "spec.completions is not 1"),
        (job(FLOW, pod={"volumes": {}}), "spec.template.spec.volumes is an object, not a list"),
        (job(None), "spec.template.spec.containers[0] is null, not an object"),  # type: ignore[arg-type]
        (job({"name": 5}), "containers[0].name is a number, not text"),
        (job({"image": ""}), "containers[0].image is empty"),
        (job({"env": {"A": "1"}}), "containers[0].env is an object, not a list"),
        (job({"env": [{"value": "1"}]}), "containers[0].env[0] has no name"),
        (job({"env": [{"name": "A", "value": 1}]}), "containers[0].env[0].value is a number, not text"),
        (job({"env": [{"name": "A", "value": "\0"}]}), "containers[0].env[0]: A has a NUL"),
        (job({"resources": {"limits": 5}}), "containers[0].resources.limits is a number, not an object"),
        (job({"volumeMounts": ["/a"]}), "containers[0].volumeMounts[0] is text, not an object"),
        (json.loads('{"a":' * 900 + "1" + "}" * 900), "nested more than 40 deep"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_with_the_place_of_the_fault(
    template: dict[str, Any], told: str
) -> None:
    message = refusal(kubernetes(job_template=template))
    assert message.startswith("job_template cannot be used: ")
    assert told in message


def test_the_message_says_whose_template_it_is() -> None:
    assert refusal(defaults=replace(DEFAULTS, job_template=job())).startswith("the agent's own job template cannot")
    run = a_run(kubernetes(job_template_path="s3://b/k"))
    with pytest.raises(UnsupportedRun, match=r"^the job template s3://b/k cannot be used: kind is not Job"):
        build_job(run, read_kubernetes_run(run), {**job(FLOW), "kind": "Pod"}, DEFAULTS)


def test_a_template_may_name_the_agents_own_namespace_and_no_other() -> None:
    template = of_the_run(FLOW, metadata={"namespace": "flows"})
    assert build(template, replace(DEFAULTS, namespace="flows"))["metadata"]["namespace"] == "flows"
    assert "metadata.namespace" in refusal(template)
    assert "metadata.namespace" in refusal(
        of_the_run(FLOW, metadata={"namespace": "default"}), replace(DEFAULTS, namespace="flows")
    )


def test_nulls_in_a_template_are_nothing_as_they_are_to_kubernetes() -> None:
    template = job(
        {"name": None, "image": None, "env": None, "resources": {"limits": None}, "volumeMounts": None},
        metadata={"labels": None, "annotations": None, "name": None},
        pod={"restartPolicy": None, "volumes": None},
        ttlSecondsAfterFinished=None,
        parallelism=None,
    )
    manifest = with_key(build(kubernetes(job_template=template), replace(DEFAULTS, ttl_seconds_after_finished=5)), KEY)
    assert schema_problem(manifest) == ""
    assert container_of(manifest)["name"] == "flow"
    assert pod_of(manifest)["restartPolicy"] == "Never"
    assert manifest["spec"]["ttlSecondsAfterFinished"] == 5


@given(
    st.dictionaries(
        st.sampled_from(["env", "cpu_limit", "job_template", "image_pull_secrets", "image", "image_pull_policy"]), JSON
    )
)
def test_whatever_stands_in_a_run_config_it_is_built_or_refused(fields: dict[str, Any]) -> None:
    built_or_refused(kubernetes(**fields))


FULL = job(
    {**FLOW, "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
    metadata={"name": "theirs", "labels": {"a": "b"}, "annotations": {"a": "b"}},
    pod_metadata={"labels": {"a": "b"}},
    pod={"volumes": [{"name": "v", "emptyDir": {}}], "restartPolicy": "Never"},
    ttlSecondsAfterFinished=5,
)


def paths_in(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for name, child in children for path in paths_in(child, (*at, name)))]


@given(st.sampled_from(paths_in(FULL)[1:]), JSON)
def test_whatever_stands_anywhere_in_a_template_it_is_built_or_refused(path: tuple[Any, ...], junk: Any) -> None:
    template = json.loads(json.dumps(FULL))
    parent = functools.reduce(lambda value, name: value[name], path[:-1], template)
    parent[path[-1]] = junk
    built_or_refused(kubernetes(job_template=template))


def built_or_refused(run_config: dict[str, Any]) -> None:
    try:
        manifest = with_key(build(run_config), KEY)
    except UnsupportedRun as error:
        assert str(error)
        assert "\x00" not in str(error)
    else:
        assert manifest["metadata"]["labels"]["prefect.io/flow_run_id"] == "run-1"
        assert container_of(manifest)["args"][0] == "prefect"


def test_problems_of_the_agents_own_template_are_told_with_the_setting() -> None:
    with pytest.raises(SettingsError) as caught:
        replace(DEFAULTS, job_template={**job(FLOW, parallelism=3), "kind": "Pod"}).validate()
    assert [problem.split()[:2] for problem in caught.value.problems] == [
        ["--job-template:", "kind"],
        ["--job-template:", "spec.parallelism"],
    ]
    DEFAULTS.validate()


@given(st.sampled_from(["metadata", "spec"]), JSON.map(lambda inner: [inner, "sekret"]))
def test_what_is_wrong_with_a_template_is_told_without_what_stands_there(name: str, junk: Any) -> None:
    template = job({**FLOW, "env": [{"name": "A", "value": ["sekret"]}]}, metadata={"labels": {"a": "sekret!"}})
    message = refusal(kubernetes(job_template={**template, name: junk}))
    assert f"{name} is a list, not an object" in message
    assert "sekret" not in message
