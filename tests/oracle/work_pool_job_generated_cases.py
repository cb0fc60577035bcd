"""Generated cases: whatever people may write into work pools and job variables, but what `DIFFERENT` says."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.oracle.kubernetes_generated_cases import often, rarely, some_of
from tests.oracle.work_pool_job_cases import BEHAVIOR, FIELD_REF, SIDECAR, Json, PoolCase, changed, default_template

Strategy = st.SearchStrategy[Any]

_texts = st.text(st.sampled_from("abcXYZ019 -_./:!',éüß"), max_size=8)
_label_names = st.sampled_from(["team", "example.org/x", "My Key", "-a-", "prefect.io/flow-name", "k" * 70])
_label_values = st.sampled_from(["", "a", "A_1.b-c", "Some Team", "1,000", "é", "v" * 70])
_variables = st.sampled_from(["A", "B", "C", "PREFECT_API_URL", "PREFECT_LOGGING_LEVEL", BEHAVIOR])
_quantities = st.sampled_from(["1", "500m", "2Gi", "1e3"])
_junk: Strategy = st.sampled_from([5, "text", ["a"]])
_labels = st.dictionaries(_label_names, _label_values, max_size=3)
_annotations = st.dictionaries(_label_names, _texts, max_size=2)
_values = st.sampled_from(["v", "$(A)", "a b", "{{ image }}"])
_env_object = st.dictionaries(_variables, _values | st.sampled_from([1, True, None]), max_size=4)
_env_list = st.lists(
    st.builds(lambda name, value: {"name": name, "value": value}, _variables, _values) | st.just(FIELD_REF),
    min_size=1,
    max_size=3,
    unique_by=lambda entry: str(entry["name"]),
)

_job_variables = some_of(
    name=_texts | st.none() | st.just("{{ ctx.flow.name }}"),
    env=rarely(_junk, often(2, 3, _env_object, _env_list)),
    labels=rarely(_junk, _labels),
    annotations=rarely(_junk, _annotations),
    command=rarely(st.just("a 'b"), st.sampled_from(["", "python x.py", "a 'b c' d"]) | st.none()),
    namespace=st.sampled_from(["default", "flows"]),
    image=rarely(st.just(""), st.sampled_from(["img:1", "reg.io/team/img@sha256:abc"])),
    service_account_name=st.sampled_from(["runner", None]),
    image_pull_policy=st.sampled_from(["Always", "IfNotPresent", "Never"]),
    backoff_limit=rarely(st.just(-1), st.sampled_from([0, 0, 3, None])),
    finished_job_ttl=rarely(st.just("soon"), st.sampled_from([0, 60, None])),
    cpu_request=_quantities,
    memory_limit=_quantities | st.none(),
    unknown=_texts,
)

_container = some_of(
    env=_env_list,
    args=rarely(st.just(5), st.sampled_from([["a", "b"], "a 'b'"])),
    command=st.just(["/entry"]),
    image=st.just("registry/{{ image }}"),
    imagePullPolicy=st.just("Always"),
    name=rarely(st.just("flow"), st.just("prefect-job")),
)
_pod = some_of(
    restartPolicy=rarely(st.just("OnFailure"), st.just("Never")),
    nodeSelector=st.just({"disk": "ssd"}),
    imagePullSecrets=st.just([{"name": "pull"}]),
    initContainers=st.just([{**SIDECAR, "name": "init"}]),
)
_spec = some_of(backoffLimit=st.sampled_from([0, 2]), activeDeadlineSeconds=st.just(60), suspend=st.booleans())
_metadata = some_of(labels=_labels, annotations=_annotations)
_template = st.builds(
    lambda container, pod, spec, metadata, pod_metadata, defaults: changed(
        container=container, pod=pod, spec=spec, metadata=metadata, pod_metadata=pod_metadata, defaults=defaults
    ),
    _container,
    _pod,
    _spec,
    _metadata,
    _metadata,
    some_of(env=_env_object, labels=_labels, image=st.just("pool:1"), namespace=st.just("elsewhere")),
)
_agent: Strategy = st.sampled_from(
    [{}, {"api_key": "k"}, {"auth_string": "u:p"}, {"api_key": "k", "secret": {"name": "prefect", "key": "key"}}]
)


@st.composite
def cases(draw: st.DrawFn) -> PoolCase:
    """A flow run of a work pool with a template of its own or the default one."""
    variables: Json = draw(_job_variables)
    run_variables: Json = draw(often(1, 2, st.just({}), _job_variables))
    if isinstance(variables.get("env"), dict) and isinstance(run_variables.get("env"), list):
        del run_variables["env"]
    return PoolCase(
        "generated",
        variables=variables,
        run_variables=run_variables,
        template=draw(often(1, 3, st.just(default_template()), _template)),
        agent=draw(_agent),
        run_name=draw(st.sampled_from(["happy-otter", "A Run", "\u00e9", "r" * 80])),
        has_deployment=draw(often(4, 5, st.just(True), st.just(False))),
    )
