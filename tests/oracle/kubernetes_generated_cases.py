"""Generated cases: whatever people may write, left out what `REFUSED_HERE` and `REFUSED_THERE` say."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.oracle.kubernetes_cases import Case, job

Strategy = st.SearchStrategy[Any]

_ABSENT = object()

_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
_variables = st.sampled_from(["A", "B", "C", "PREFECT__LOGGING__LEVEL", "PREFECT__CLOUD__API_KEY"])
_names = st.sampled_from(["one", "two"])
_images = st.sampled_from(["img:1", "reg.io/team/img@sha256:abc", "img"])
_quantities = st.sampled_from(["1", "500m", "0.5", "2Gi", "1e3", ".5", "100k"])
_labels = st.dictionaries(
    st.sampled_from(["team", "example.org/x", "prefect.io/flow_id"]), st.sampled_from(["", "a", "A_1.b-c"]), max_size=2
)
_junk: Strategy = st.sampled_from([5, True, "text", ["a"], {"a": 1}])


def often(chances: int, of: int, usual: Strategy, other: Strategy) -> Strategy:
    """`usual` in so many of so many cases; Hypothesis would take a branch that is named twice for one."""
    return st.integers(1, of).flatmap(lambda dice: usual if dice <= chances else other)


def some_of(**fields: Strategy) -> Strategy:
    """Objects with most of the fields."""
    drawn = st.fixed_dictionaries({name: often(3, 4, each, st.just(_ABSENT)) for name, each in fields.items()})
    return drawn.map(lambda document: {name: value for name, value in document.items() if value is not _ABSENT})


def rarely(junk: Strategy, usual: Strategy) -> Strategy:
    """`usual`, but for one case in thirty."""
    return often(29, 30, usual, junk)


_metadata = some_of(
    name=st.just("theirs"),
    labels=rarely(st.just(["a"]), _labels),
    annotations=st.dictionaries(_names, _texts, max_size=2),
)
_env = st.lists(
    st.builds(lambda name, value: {"name": name, "value": value}, _variables, _texts)
    | st.just({"name": "FROM", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
    max_size=4,
)
_resources = some_of(
    requests=some_of(cpu=_quantities, memory=st.integers(1, 9)),
    limits=rarely(st.just(["cpu"]), some_of(cpu=_quantities)),
)
_container = some_of(
    image=_images,
    imagePullPolicy=st.just("Never"),
    command=st.just(["/entry"]),
    args=st.just(["mine"]),
    env=rarely(_junk, _env),
    resources=_resources,
    volumeMounts=st.just([{"name": "v", "mountPath": "/v"}]),
).flatmap(lambda rest: st.sampled_from(["flow", "main", "proxy"]).map(lambda name: {"name": name, **rest}))
_pod = some_of(
    serviceAccountName=_names | st.none(),
    imagePullSecrets=st.just([{"name": "pull"}]) | st.just([]) | st.none(),
    restartPolicy=st.just("OnFailure"),
    volumes=st.just([{"name": "v", "emptyDir": {}}]),
)
_template = st.builds(
    lambda containers, metadata, pod_metadata, pod, spec: job(
        *containers, metadata=metadata, pod_metadata=pod_metadata, pod=pod, **spec
    ),
    rarely(st.just([]), st.lists(_container, min_size=1, max_size=2)),
    _metadata,
    _metadata,
    _pod,
    some_of(backoffLimit=st.integers(0, 6), ttlSecondsAfterFinished=st.just(9), completions=st.just(1)),
)


def _run_configs() -> Strategy:
    env = rarely(_junk, st.dictionaries(st.sampled_from(["A", "B", "PREFECT__BACKEND"]), _texts, max_size=3))
    ours = some_of(
        env=env,
        image=rarely(_junk, _images),
        job_template=rarely(_junk, _template),
        cpu_limit=rarely(st.just(2), _quantities),
        cpu_request=_quantities,
        memory_limit=_quantities,
        memory_request=st.just("") | _quantities,
        service_account_name=_names | st.just(""),
        image_pull_secrets=rarely(st.just("text"), st.lists(_names, max_size=2)),
        image_pull_policy=rarely(st.just("Sometimes"), st.sampled_from(["Always", "IfNotPresent", "Never"])),
    ).map(lambda fields: {"type": "KubernetesRun", "labels": [], **fields})
    others = some_of(env=env, image=_images).flatmap(
        lambda fields: st.sampled_from(["UniversalRun"] * 4 + ["LocalRun"]).map(lambda kind: {"type": kind, **fields})
    )
    return often(4, 5, ours, others | st.none())


_agent = some_of(
    labels=st.lists(_texts, min_size=1, max_size=3),
    env_vars=st.dictionaries(_variables, _texts, min_size=1, max_size=3),
    no_cloud_logs=st.booleans(),
    service_account_name=_names,
    image_pull_secrets=st.lists(_names, max_size=2),
    job_template_path=_template,
)
_flow = some_of(
    core_version=st.sampled_from(["0.12.6", "0.13.0", "0.15.3+7.gab", "1.4.1", "1.0rc1", "", None]),
    storage=st.sampled_from(
        [
            {"type": "S3", "bucket": "x"},
            {"type": "GitHub", "repo": "x/y", "path": "f.py"},
            {"type": "Docker", "image_name": "a", "image_tag": "b", "registry_url": "r.io"},
        ]
    ),
)
_prefect = some_of(api_key=st.just("pcu_key"), log_level=st.sampled_from(["DEBUG", "ERROR"]), backend=st.just("cloud"))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A flow run of any kind for an agent of any kind; sometimes its template is behind a path."""
    run_config = draw(_run_configs())
    is_ours = run_config and run_config["type"] == "KubernetesRun" and "job_template" not in run_config
    return Case(
        "generated",
        run_config=run_config,
        flow=draw(_flow),
        agent=draw(_agent),
        prefect=draw(_prefect),
        at_path=draw(often(1, 2, _template, st.none())) if is_ours else None,
    )
