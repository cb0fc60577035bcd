"""Work pools, deployments and flow runs for which both Prefect's Kubernetes worker and this agent make a Job."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

ABSENT = object()
"""What is taken out of the default template."""

DIFFERENT = {
    "null image": "a null is no image, as no container can be without one: the agent's default runs",
    "empty behavior": "an empty text says nothing of what becomes of a flow that is ended",
    "null": "a null for the annotations or the namespace is none; Prefect fails the run",
    "list over object": "a list of env cannot be merged with an object of it, not even an empty one",
    "watch": "what only a worker that waits for its Jobs needs is not read, so it can have nothing wrong either",
    "marks of pods": "parallelism and completions in the pod's spec mean nothing to Kubernetes, and may be missing",
    "no kind": "apiVersion and kind can be nothing else than those of a Job, and may be missing",
    "label of nothing": "a label value of which nothing is left is empty; the API server refuses the text as it is",
    "more pods": "a flow run is one pod",
    "unknown namespace": "a namespace that job variables alone name needs a word of the operator",
    "reference and value": "a variable that Kubernetes fills in is not given in plain as well",
    "run label": "the id of the flow run stays in its label, whoever writes another: by it the Job is found",
    "entities": "a label is not taken for HTML",
    "script": "letters of other scripts than the Latin one are left out of labels, and not spelled out",
}
"""Where ours is not what Prefect's worker makes, and why; each has a case that shows it."""


@dataclass(frozen=True)
class PoolCase:
    """A flow run of a Kubernetes work pool; without `template` that is the default one.

    `agent` has `api_key` or `auth_string`, and `secret` if that is in a Kubernetes Secret. `difference` is a key of
    `DIFFERENT`.
    """

    what: str
    variables: Json = field(default_factory=dict)
    run_variables: Json = field(default_factory=dict)
    template: Any = None
    agent: Json = field(default_factory=dict)
    run_name: str = "happy-otter"
    flow_name: str = "My Flow"
    has_deployment: bool = True
    deployment_name: str = "nightly"
    prefect_variables: Json = field(default_factory=dict)
    difference: str = ""


_NAMES = ("name", "env", "labels", "command", "annotations", "image", "service_account_name", "finished_job_ttl")
_MORE = ("job_watch_timeout_seconds", "cluster_config", "cpu_request", "cpu_limit", "memory_request", "memory_limit")
_DEFAULTS = {
    "namespace": "default",
    "image_pull_policy": "IfNotPresent",
    "backoff_limit": 0,
    "pod_watch_timeout_seconds": 60,
    "stream_output": True,
}


def default_template() -> Json:
    """The default base job template, as far as it decides what becomes of a run."""
    resources = {kind: {part: f"{{{{ {part}_{kind[:-1]} }}}}" for part in ("cpu", "memory")} for kind in _KINDS}
    container = {
        "name": "prefect-job",
        "env": "{{ env }}",
        "image": "{{ image }}",
        "imagePullPolicy": "{{ image_pull_policy }}",
        "args": "{{ command }}",
        "resources": resources,
    }
    pod = {
        "parallelism": 1,
        "completions": 1,
        "restartPolicy": "Never",
        "serviceAccountName": "{{ service_account_name }}",
        "containers": [container],
    }
    metadata = {name: f"{{{{ {name} }}}}" for name in ("annotations", "labels", "namespace")}
    spec = {"backoffLimit": "{{ backoff_limit }}", "ttlSecondsAfterFinished": "{{ finished_job_ttl }}"}
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**metadata, "generateName": "{{ name }}-"},
        "spec": {**spec, "template": {"spec": pod}},
    }
    plain = ("command", "env", "labels", "name", "annotations", "namespace", "cluster_config", "stream_output")
    watched = ("job_watch_timeout_seconds", "pod_watch_timeout_seconds")
    configuration = {name: f"{{{{ {name} }}}}" for name in plain + watched}
    properties: Json = {name: {} for name in _NAMES + _MORE}
    properties |= {name: {"default": value} for name, value in _DEFAULTS.items()}
    return {
        "job_configuration": {**configuration, "job_manifest": manifest},
        "variables": {"type": "object", "properties": properties},
    }


_KINDS = ("limits", "requests")


def changed(
    manifest: Json | None = None, configuration: Json | None = None, defaults: Json | None = None, **parts: Json
) -> Json:
    """The default template with other parts: `container`, `pod`, `pod_metadata`, `spec`, `metadata`."""
    template = default_template()
    job = template["job_configuration"]["job_manifest"]
    spec = job["spec"]
    places = {"metadata": job["metadata"], "spec": spec, "pod": spec["template"]["spec"]}
    places["container"] = places["pod"]["containers"][0]
    if "pod_metadata" in parts:
        places["pod_metadata"] = spec["template"]["metadata"] = {}
    for place, part in parts.items():
        _change(places[place], part)
    _change(job, manifest or {})
    _change(template["job_configuration"], configuration or {})
    for name, value in (defaults or {}).items():
        template["variables"]["properties"][name] = {"default": value}
    return template


def _change(document: Json, changes: Json) -> None:
    for name, value in changes.items():
        if value is ABSENT:
            document.pop(name, None)
        else:
            document[name] = json.loads(json.dumps(value))


FIELD_REF = {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
BEHAVIOR = "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"
SIDECAR = {"name": "proxy", "image": "envoy:1", "env": [{"name": "P", "value": "1"}]}
_KEY = {"api_key": "pnu_key"}
_SECRET = {"secret": {"name": "prefect", "key": "key"}}

_VARIABLES: tuple[Json, ...] = (
    {},
    {"name": "My Name!"},
    {"name": ""},
    {"name": None},
    {"name": "{{ ctx.flow.name }}-{{ ctx.flow_run.name }}"},
    {"env": {"A": "1", "B": "$(A)"}},
    {"env": {"B": "$(A)", "A": "1"}},
    {"env": {"A": 5, "B": True, "C": 1.5}},
    {"env": {"A": None}},
    {"env": {"PREFECT_API_URL": "https://other/api"}},
    {"env": {"PREFECT_API_URL": None}},
    {"env": {"PREFECT__FLOW_RUN_ID": "mine"}},
    {"env": {BEHAVIOR: "reschedule"}},
    {"env": {BEHAVIOR: "own"}, "backoff_limit": 3},
    {"env": [{"name": "A", "value": "1"}, FIELD_REF]},
    {"env": [FIELD_REF]},
    {"env": []},
    {"env": [{"name": "A", "value": "1"}], "backoff_limit": 2},
    {"env": [{"name": BEHAVIOR, "value": "own"}]},
    {"env": [{"name": "A"}, {"name": "B", "value": None}]},
    {"env.A": "dotted"},
    {"labels": {"team": "data", "example.org/My Key!": "Some Value, 1,000"}},
    {"labels": {"x": "é ü ß Ørsted L\u2019été", "_y_": "-a-"}},
    {"labels": {"k" * 80: "v" * 80}},
    {"labels": {"p.q" * 100 + "/name": "v"}},
    {"labels": {"prefect.io/flow-name": "other", "app.kubernetes.io/name": "mine"}},
    {"labels": {"empty": ""}},
    {"annotations": {"team": "Any Text!", "example.org/a b": "x"}},
    {"command": "python -m 'my module' --flag"},
    {"command": ""},
    {"command": None},
    {"namespace": "flows"},
    {"image": "team/own:1"},
    {"service_account_name": "runner"},
    {"service_account_name": None},
    {"image_pull_policy": "Always"},
    {"backoff_limit": 3},
    {"backoff_limit": None},
    {"finished_job_ttl": 60},
    {"finished_job_ttl": None},
    {"job_watch_timeout_seconds": 5, "pod_watch_timeout_seconds": 5, "stream_output": False},
    {"cpu_request": "500m", "cpu_limit": "1"},
    {"memory_request": "1Gi", "memory_limit": "2Gi"},
    {"unknown": "variable"},
)
_AS_BOTH_REFUSE: tuple[tuple[str, Json, Json], ...] = (
    ("command without its quote", {"command": "python 'x"}, {}),
    ("no container", {}, {"pod": {"containers": []}}),
    ("another container", {}, {"container": {"name": "flow"}}),
    ("restart", {}, {"pod": {"restartPolicy": "OnFailure"}}),
    ("restart of null", {}, {"pod": {"restartPolicy": None}}),
    ("kind", {}, {"manifest": {"kind": "Pod"}}),
    ("version", {}, {"manifest": {"apiVersion": "batch/v2"}}),
    ("no manifest", {}, {"configuration": {"job_manifest": ABSENT}}),
    ("manifest is text", {}, {"configuration": {"job_manifest": "job"}}),
    ("args are a number", {}, {"container": {"args": 5}}),
    ("labels are a list", {"labels": ["a"]}, {}),
    ("a label is a number", {"labels": {"a": 5}}, {}),
    ("annotations are text", {"annotations": "a"}, {}),
    ("an annotation is a number", {"annotations": {"a": 5}}, {}),
    ("env is text", {"env": "A=1"}, {}),
    ("env is a list of text", {"env": ["A=1"]}, {}),
    ("another namespace", {}, {"metadata": {"namespace": "other"}}),
    ("no restart policy", {"image_pull_policy": "Never"}, {"pod": {"restartPolicy": ABSENT}}),
    ("a fixed label is a number", {}, {"metadata": {"labels": {"a": 5}}}),
    ("labels are null", {"labels": None}, {}),
    ("an empty image", {"image": ""}, {}),
    ("limits are a list", {}, {"container": {"resources": {"limits": ["cpu"]}}}),
    ("namespace is a number", {"namespace": 5}, {}),
    ("a value of env is an object", {}, {"container": {"env": [{"name": "A", "value": {"a": 1}}]}}),
    ("an entry of env without a name", {}, {"container": {"env": [{"value": "a"}]}}),
    ("a label's name is nothing", {"labels": {"!": "a"}}, {}),
)
_TEMPLATES: tuple[tuple[str, Json], ...] = (
    ("env in the template", {"container": {"env": [{"name": "A", "value": "t"}, FIELD_REF]}}),
    ("no env", {"container": {"env": ABSENT}}),
    ("fixed labels", {"metadata": {"labels": {"team": "Data Team"}}, "pod_metadata": {"labels": {"pod": "x y"}}}),
    ("fixed annotations", {"metadata": {"annotations": {"a b": "c"}}, "pod_metadata": {"annotations": {"p q": "1"}}}),
    ("no metadata", {"manifest": {"metadata": ABSENT}}),
    ("fixed args", {"container": {"args": ["prefect", "flow-run", "execute"]}}),
    ("args as text", {"container": {"args": "prefect 'flow-run' execute"}}),
    ("own entry point", {"container": {"command": ["/bin/tini"], "workingDir": "/flows"}}),
    (
        "a sidecar",
        {
            "pod": {
                "containers": [
                    *changed()["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["containers"],
                    SIDECAR,
                ]
            }
        },
    ),
    (
        "volumes",
        {
            "pod": {"volumes": [{"name": "v", "emptyDir": {}}]},
            "container": {"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
        },
    ),
    ("scheduling", {"pod": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"operator": "Exists"}]}}),
    ("pull secrets", {"pod": {"imagePullSecrets": [{"name": "pull"}], "terminationGracePeriodSeconds": 5}}),
    ("deadline", {"spec": {"activeDeadlineSeconds": 60, "backoffLimit": 0}}),
    ("no backoff limit", {"spec": {"backoffLimit": ABSENT}}),
    ("own name", {"metadata": {"generateName": "mine-"}}),
    ("another default namespace", {"defaults": {"namespace": "elsewhere"}}),
    ("no namespace", {"configuration": {"namespace": ABSENT}, "metadata": {"namespace": ABSENT}}),
    ("fixed namespace", {"configuration": {"namespace": "flows"}, "metadata": {"namespace": "flows"}}),
    ("default env", {"defaults": {"env": {"D": "default", "A": "default"}}}),
    ("fixed env", {"configuration": {"env": {"F": "fixed", "A": "fixed"}}}),
    ("default labels", {"defaults": {"labels": {"d": "default"}}}),
    ("pod fields where they belong", {"spec": {"parallelism": 1, "completions": 1}}),
    ("fields that no Job has", {"spec": {"backofLimit": 1}, "pod": {"restart": "x"}}),
    ("variables in texts", {"container": {"image": "registry/{{ image }}:{{ prefect.variables.tag }}"}}),
    ("prefect variable", {"spec": {"ttlSecondsAfterFinished": "{{ prefect.variables.ttl }}"}}),
)
_AGENTS: tuple[Json, ...] = (
    _KEY,
    {"auth_string": "user:secret"},
    {**_KEY, **_SECRET},
    {"auth_string": "u:p", **_SECRET},
)

ALIKE = (
    *(PoolCase(f"variables {each}", each) for each in _VARIABLES),
    *(PoolCase(f"of the run {each}", run_variables=each) for each in _VARIABLES),
    PoolCase("env of both", {"env": {"A": "1", "B": "2"}}, {"env": {"B": "3", "C": None}}),
    PoolCase("lists of env of both", {"env": [FIELD_REF]}, {"env": [{"name": "A", "value": "1"}]}),
    PoolCase("labels of both", {"labels": {"a": "1"}}, {"labels": {"b": "2"}}),
    *(
        PoolCase(what, {"env": {"A": "v"}}, template=changed(**parts), prefect_variables={"tag": "3", "ttl": 9})
        for what, parts in _TEMPLATES
    ),
    *(
        PoolCase(what, template=changed(**parts), prefect_variables={"tag": "3", "ttl": 9})
        for what, parts in _TEMPLATES
    ),
    *(PoolCase(what, variables, template=changed(**parts)) for what, variables, parts in _AS_BOTH_REFUSE),
    *(PoolCase(f"key {agent}", agent=agent) for agent in _AGENTS),
    *(
        PoolCase(f"key unset {agent}", {"env": {"PREFECT_API_KEY": None, "PREFECT_API_AUTH_STRING": None}}, agent=agent)
        for agent in _AGENTS
    ),
    *(
        PoolCase(f"own key {agent}", {"env": {"PREFECT_API_KEY": "own", "PREFECT_API_AUTH_STRING": "own"}}, agent=agent)
        for agent in _AGENTS
    ),
    PoolCase("ad hoc", has_deployment=False),
    *(
        PoolCase(f"named {name!r}", run_name=name, flow_name=name, deployment_name=name)
        for name in ("a b", "É—x", "UPPER_case.9", "a" * 99, "it's", "1,000,000")
    ),
)

UNLIKE = (
    PoolCase("image", {"image": None}, difference="null image"),
    PoolCase("behavior", {"env": [{"name": BEHAVIOR, "value": ""}, FIELD_REF]}, difference="empty behavior"),
    PoolCase("annotations", {"annotations": None}, difference="null"),
    PoolCase("namespace", {"namespace": None}, template=changed(metadata={"namespace": ABSENT}), difference="null"),
    PoolCase("env", {"env": {"A": "1"}}, {"env": []}, difference="list over object"),
    PoolCase("watch", {"pod_watch_timeout_seconds": "long"}, difference="watch"),
    PoolCase("stream", {"stream_output": "text"}, difference="watch"),
    PoolCase(
        "no marks", template=changed(pod={"parallelism": ABSENT, "completions": ABSENT}), difference="marks of pods"
    ),
    PoolCase("more marks", template=changed(pod={"parallelism": 2}), difference="marks of pods"),
    PoolCase("no kind", template=changed(manifest={"kind": ABSENT}), difference="no kind"),
    PoolCase("no version", template=changed(manifest={"apiVersion": ABSENT}), difference="no kind"),
    PoolCase("emoji", run_name="\U0001f680", difference="label of nothing"),
    PoolCase("underscores", {"labels": {"a": "___"}}, difference="label of nothing"),
    PoolCase("two pods", template=changed(spec={"parallelism": 2, "completions": 2}), difference="more pods"),
    PoolCase("namespace", {"namespace": "kube-system"}, difference="unknown namespace"),
    PoolCase(
        "both",
        {"env": [{"name": "PREFECT_API_KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
        agent=_KEY,
        difference="reference and value",
    ),
    PoolCase("id", {"labels": {"prefect.io/flow-run-id": "mine"}}, difference="run label"),
    PoolCase("ampersand", run_name="a&amp;b", difference="entities"),
    PoolCase("greek", run_name="αβγ", difference="script"),
)
