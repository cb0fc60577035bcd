"""Flow runs and agent settings for which both Prefect 1.4.1 and this agent are asked to build a Job."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.oracle.ecs_cases import Case as AnyCase
from tests.oracle.ecs_cases import Json, docker

REFUSED_HERE = {
    "kind": "only a Job of batch/v1 is started; Prefect posts anything to the Jobs of the namespace",
    "namespace": "the API server refuses a namespace that is not the request's",
    "more pods": "a flow run is one pod",
    "label": "the API server refuses such labels, in words about the pod",
    "label name": "the API server refuses such labels, in words about the pod",
    "quantity": "the API server refuses such a quantity, in words about its own regular expression",
    "empty image": "the API server refuses a container without an image",
    "empty secret": "the API server refuses a secret without a name",
    "NUL": "no process could be given a NUL",
    "depth": "a template nested without end is refused before anything walks through it",
    "reserved variable": "a run's value for a variable that the agent sets must be text all the same",
}
REFUSED_THERE = {
    "null": "a null in a template is no value, as the API server takes it; Prefect fails the run",
    "unnamed container": "the container that runs the flow gets the name `flow`; the API server refuses one without",
    "odd version": "a core version without numbers starts as a new one, where Prefect fails the run",
    "storage type": "the storage is the container's business; Prefect fails the run for one it does not know",
    "labels": "the run config's own labels are not looked at",
}


@dataclass(frozen=True)
class Case(AnyCase):
    """A flow run for one agent; `at_path` is the template that the run names by its path."""

    at_path: Any = None


def kubernetes(**fields: Any) -> Json:
    """A KubernetesRun document as Prefect 1.4.1 stores it."""
    names = ("job_template", "job_template_path", "image", "env", "image_pull_secrets", "image_pull_policy")
    sizes = ("cpu_limit", "cpu_request", "memory_limit", "memory_request", "service_account_name")
    return {"type": "KubernetesRun", "__version__": "1.4.1", "labels": [], **dict.fromkeys(names + sizes), **fields}


def job(*containers: Json, metadata: Any = None, pod_metadata: Any = None, pod: Any = None, **spec: Any) -> Json:
    """A Job template; of the metadata what is given."""
    template = {"spec": {"containers": list(containers), **(pod or {})}}
    if pod_metadata is not None:
        template["metadata"] = pod_metadata
    document = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": template, **spec}}
    return document if metadata is None else {**document, "metadata": metadata}


def of_the_run(*containers: Json, **parts: Any) -> Json:
    """A KubernetesRun with a template of its own."""
    return kubernetes(job_template=job(*containers, **parts))


FLOW: Json = {
    "name": "flow",
    "image": "team/own:1",
    "command": ["/entry"],
    "env": [
        {"name": "Z", "value": "template"},
        {"name": "A", "value": "template"},
        {"name": "FROM", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ],
    "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": 2}},
}
SIDECAR: Json = {"name": "proxy", "image": "envoy:1", "env": [{"name": "P", "value": "1"}]}
_CHOSEN = {"serviceAccountName": "of-template", "imagePullSecrets": [{"name": "of-template"}]}
_AGENT = {"service_account_name": "of-agent", "image_pull_secrets": ["of-agent", "second"]}
_KEY = "PREFECT__CLOUD__API_KEY"
_SECRET = {"name": _KEY, "valueFrom": {"secretKeyRef": {"name": "prefect", "key": "key"}}}
_DEEP: Any = json.loads("[" * 50 + "]" * 50)

ALIKE = [
    Case("no run config"),
    Case("a universal run", {"type": "UniversalRun", "labels": ["x"], "env": {"A": "1"}}),
    Case("a universal run without env", {"type": "UniversalRun", "labels": [], "env": None}),
    Case("an empty kubernetes run", kubernetes()),
    Case("a kubernetes run without any field", {"type": "KubernetesRun"}),
    Case("unknown fields of a kubernetes run", {"type": "KubernetesRun", "surprise": 1}),
    Case("env", kubernetes(env={"B": "2", "A": "", "C": "ß"})),
    Case("env that sets what is reserved", kubernetes(env={"PREFECT__BACKEND": "x", _KEY: "mine"})),
    Case("env that sets the image variable", kubernetes(env={"PREFECT__CONTEXT__IMAGE": "x"})),
    Case("env that sets the log level", kubernetes(env={"PREFECT__LOGGING__LEVEL": "DEBUG"})),
    Case("logs off by the run", kubernetes(env={"PREFECT__CLOUD__SEND_FLOW_RUN_LOGS": "false"})),
    Case(
        "logs off by the agent, on by the run",
        kubernetes(env={"PREFECT__CLOUD__SEND_FLOW_RUN_LOGS": "true"}),
        agent={"no_cloud_logs": True},
    ),
    Case(
        "env of template, agent and run",
        {**of_the_run(FLOW), "env": {"A": "run"}},
        agent={"env_vars": {"A": "agent", "Z": "agent"}},
    ),
    Case("env of the template only", of_the_run(FLOW)),
    Case(
        "the log level in a template", of_the_run({**FLOW, "env": [{"name": "PREFECT__LOGGING__LEVEL", "value": "X"}]})
    ),
    Case("a key in a template", of_the_run({**FLOW, "env": [_SECRET]})),
    Case("a key in a template and one of the agent", of_the_run({**FLOW, "env": [_SECRET]}), prefect={"api_key": "k"}),
    Case(
        "one variable twice in a template", of_the_run({**FLOW, "env": [FLOW["env"][0], {"name": "Z", "value": "2"}]})
    ),
    Case("labels of the agent", agent={"labels": ["k8s", "it's"]}),
    Case("another log level and backend", prefect={"log_level": "DEBUG", "backend": "cloud"}),
    Case("an api key", prefect={"api_key": "pcu_key", "backend": "cloud"}),
    Case("image", kubernetes(image="repo/img:2")),
    Case("image of the template", of_the_run(FLOW)),
    Case("image of run and template", {**of_the_run(FLOW), "image": "other:3"}),
    Case("a null image in a template", of_the_run({"name": "flow", "image": None})),
    Case("docker storage", of_the_run(FLOW), flow=docker(registry_url="reg.io/x/", image_name="etl", image_tag="v1")),
    Case("docker storage wins", kubernetes(image="x:1"), flow=docker(image_name="etl", image_tag="v1")),
    Case("docker storage without a tag", flow=docker(image_name="etl")),
    Case("a pull policy", kubernetes(image_pull_policy="IfNotPresent")),
    Case(
        "a pull policy over a template's",
        {**of_the_run({**FLOW, "imagePullPolicy": "Never"}), "image_pull_policy": "Always"},
    ),
    Case("a pull policy of a template", of_the_run({**FLOW, "imagePullPolicy": "Never"})),
    Case("an unknown pull policy", kubernetes(image_pull_policy="Sometimes")),
    Case("an empty pull policy", kubernetes(image_pull_policy="")),
    Case("sizes", kubernetes(cpu_limit="2", cpu_request="500m", memory_limit="1.5Gi", memory_request="1e9")),
    Case("sizes over a template's", {**of_the_run(FLOW), "cpu_request": "1", "memory_limit": "4Gi"}),
    Case("empty sizes", {**of_the_run(FLOW), "cpu_request": "", "memory_limit": ""}),
    Case("further resources in a template", of_the_run({**FLOW, "resources": {"limits": {"nvidia.com/gpu": 1}}})),
    Case("an account of the run", kubernetes(service_account_name="of-run"), agent=_AGENT),
    Case("an empty account of the run", kubernetes(service_account_name=""), agent=_AGENT),
    Case("secrets of the run", kubernetes(image_pull_secrets=["of-run", "b"]), agent=_AGENT),
    Case("no secrets in the run", kubernetes(image_pull_secrets=[]), agent=_AGENT),
    Case("account and secrets of the agent", agent=_AGENT),
    Case("empty ones of the agent", agent={"service_account_name": "", "image_pull_secrets": []}),
    Case("the agent over its own template", agent={**_AGENT, "job_template_path": job(FLOW, pod=_CHOSEN)}),
    Case("the agent's template alone", agent={"job_template_path": job(FLOW, pod=_CHOSEN)}),
    Case("the run's template over the agent", of_the_run(FLOW, pod=_CHOSEN), agent=_AGENT),
    Case(
        "nulls and nothing in the run's template over the agent",
        of_the_run(FLOW, pod={"serviceAccountName": None, "imagePullSecrets": []}),
        agent=_AGENT,
    ),
    Case("the agent under a run's template that says nothing", of_the_run(FLOW), agent=_AGENT),
    Case(
        "the run over its own template",
        {**of_the_run(FLOW, pod=_CHOSEN), "service_account_name": "r", "image_pull_secrets": ["r"]},
    ),
    Case("the run's template from a path over the agent", kubernetes(), agent=_AGENT, at_path=job(FLOW, pod=_CHOSEN)),
    Case("an empty template", kubernetes(job_template={}), agent={"job_template_path": job(FLOW)}),
    Case("a template of both", of_the_run({"name": "flow", "image": "r:1"}), agent={"job_template_path": job(FLOW)}),
    Case("a template and a path", {**of_the_run(FLOW), "job_template_path": "s3://b/k"}),
    Case("an empty template and a path", kubernetes(job_template={}, job_template_path="s3://b/k")),
    Case("sidecars", of_the_run(FLOW, SIDECAR)),
    Case("a sidecar first", of_the_run(SIDECAR, {"name": "flow"})),
    Case("another name of the container", of_the_run({"name": "main"})),
    Case("args of a template", of_the_run({**FLOW, "args": ["mine"]})),
    Case("a restart policy", of_the_run(FLOW, pod={"restartPolicy": "OnFailure"})),
    Case(
        "everything else of a template",
        of_the_run(
            {**FLOW, "volumeMounts": [{"name": "v", "mountPath": "/v"}], "securityContext": {"runAsUser": 1}},
            pod={"volumes": [{"name": "v", "emptyDir": {}}], "nodeSelector": {"a": "b"}, "initContainers": [SIDECAR]},
            backoffLimit=0,
            ttlSecondsAfterFinished=7,
            activeDeadlineSeconds=60,
        ),
    ),
    Case("a name", of_the_run(FLOW, metadata={"name": "theirs"})),
    Case("a name of 300 characters", of_the_run(FLOW, metadata={"name": "x" * 300})),
    Case(
        "labels and annotations of a template",
        of_the_run(
            FLOW,
            metadata={"labels": {"team": "a", "prefect.io/flow_id": "theirs"}, "annotations": {"note": "any (text)"}},
            pod_metadata={"labels": {"example.org/Team_1": ""}, "annotations": {"iam": "role"}},
        ),
    ),
    Case("one pod said outright", of_the_run(FLOW, parallelism=1, completions=1)),
    Case("neither apiVersion nor kind", kubernetes(job_template={"spec": job(FLOW)["spec"]})),
    Case("the agent's namespace", of_the_run(FLOW, metadata={"namespace": "default"})),
    Case("a local build of prefect", flow={"core_version": "0.14.6+3.g12"}),
    Case("no core version", flow={"core_version": None}),
    Case("before 0.13", flow={"core_version": "0.12.6+3.g1"}),
    Case("a release candidate of 1.0", flow={"core_version": "1.0rc1"}),
    # Refused by both
    Case("another run config", {"type": "ECSRun", "labels": [], "image": "x"}),
    Case("an unknown run config", {"type": "MysteryRun"}),
    Case("a run config without a type", {"env": {}}),
    Case("an image that is a number", kubernetes(image=5)),
    Case("a cpu that is a number", kubernetes(cpu_limit=2)),
    Case("an env that is a list", kubernetes(env=["A=1"])),
    Case("an env value that is a number", kubernetes(env={"A": 1})),
    Case("an env value that is a list", {"type": "UniversalRun", "env": {"A": []}}),
    Case("an empty path", kubernetes(job_template_path="")),
    Case("secrets that are text", kubernetes(image_pull_secrets="a,b")),
    Case("secrets that are an object", kubernetes(image_pull_secrets={"a": 1})),
    Case("a secret that is a number", kubernetes(image_pull_secrets=[1])),
    Case("a template that is text", kubernetes(job_template="kind: Job")),
    Case("an empty list as template", kubernetes(job_template=[])),
    Case("a template that is a list", kubernetes(job_template=[1])),
    Case("no spec", kubernetes(job_template={"kind": "Job"})),
    Case("an empty spec", kubernetes(job_template={"spec": {}})),
    Case("no containers", of_the_run()),
    Case("no pod", kubernetes(job_template={"spec": {"template": {"metadata": {}}}})),
    Case("spec that is a list", kubernetes(job_template={"spec": [job()]})),
    Case("metadata that is a list", of_the_run(FLOW, metadata=["a"])),
    Case("labels that are a list", of_the_run(FLOW, metadata={"labels": ["a"]})),
    Case("a label that is a number", of_the_run(FLOW, pod_metadata={"labels": {"a": 1}})),
    Case("an annotation that is a number", of_the_run(FLOW, pod_metadata={"annotations": {"a": 1}})),
    Case("containers that are an object", of_the_run(pod={"containers": {"name": "flow"}})),
    Case("a container that is text", of_the_run("flow")),  # type: ignore[arg-type]
    Case("a container that is null", of_the_run(None)),  # type: ignore[arg-type]
    Case("a container's name that is a number", of_the_run({"name": 1})),
    Case("an image in a template that is a number", of_the_run({"name": "flow", "image": 5})),
    Case("an env that is an object", of_the_run({"name": "flow", "env": {"A": "1"}})),
    Case("an env entry without a name", of_the_run({"name": "flow", "env": [{"value": "1"}]})),
    Case("an env entry that is a number", of_the_run({"name": "flow", "env": [{"name": "A", "value": 1}]})),
    Case("resources that are a list", of_the_run({"name": "flow", "resources": []})),
    Case("limits that are a list", of_the_run({"name": "flow", "resources": {"limits": ["cpu"]}})),
]

DIFFERENT = [
    Case("a cron job", kubernetes(job_template={**job(FLOW), "kind": "CronJob"}), difference="kind"),
    Case("an old API", kubernetes(job_template={**job(FLOW), "apiVersion": "batch/v1beta1"}), difference="kind"),
    Case("a foreign namespace", of_the_run(FLOW, metadata={"namespace": "other"}), difference="namespace"),
    Case("three pods", of_the_run(FLOW, parallelism=3), difference="more pods"),
    Case("three completions", of_the_run(FLOW, completions=3), difference="more pods"),
    Case("an umlaut in a label", of_the_run(FLOW, metadata={"labels": {"a": "Müller"}}), difference="label"),
    Case("a long label", of_the_run(FLOW, pod_metadata={"labels": {"a": "x" * 64}}), difference="label"),
    Case("a label with two slashes", of_the_run(FLOW, metadata={"labels": {"a/b/c": "x"}}), difference="label name"),
    Case("vcpu", kubernetes(cpu_limit="2 vcpu"), difference="quantity"),
    Case("a negative size", kubernetes(memory_request="-1Gi"), difference="quantity"),
    Case("an empty image", kubernetes(image=""), difference="empty image"),
    Case("an empty image in a template", of_the_run({"name": "flow", "image": ""}), difference="empty image"),
    Case("an empty secret", kubernetes(image_pull_secrets=[""]), difference="empty secret"),
    Case("a NUL", kubernetes(env={"A": "x\0y"}), difference="NUL"),
    Case("a deep template", of_the_run(FLOW, pod={"deep": _DEEP}), difference="depth"),
    Case("a number for a reserved variable", kubernetes(env={"PREFECT__BACKEND": 1}), difference="reserved variable"),
    Case("null labels", of_the_run(FLOW, metadata={"labels": None}), difference="null"),
    Case("a null name", of_the_run(FLOW, metadata={"name": None}), difference="null"),
    Case("null resources", of_the_run({**FLOW, "resources": None}), difference="null"),
    Case("a null env", of_the_run({**FLOW, "env": None}), difference="null"),
    Case("a container without a name", of_the_run({"image": "x:1"}), difference="unnamed container"),
    Case("a branch as version", flow={"core_version": "master"}, difference="odd version"),
    Case("a storage of one's own", flow={"storage": {"type": "Tape"}}, difference="storage type"),
    Case("labels that are null", {**kubernetes(), "labels": None}, difference="labels"),
]
