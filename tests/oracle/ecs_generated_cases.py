"""Generated cases: whatever people may write, left out what `REFUSED_HERE` and `REFUSED_THERE` say."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.oracle.ecs_cases import ALLOWED_CLUSTER, NETWORK, ROLE, SPOT, Case

Strategy = st.SearchStrategy[Any]

_ABSENT = object()

_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
_variables = st.sampled_from(["A", "B", "C", "PREFECT__LOGGING__LEVEL", "PREFECT__CLOUD__SEND_FLOW_RUN_LOGS"])
_roles = st.sampled_from([ROLE + "one", ROLE + "two"])
_images = st.sampled_from(["img:1", "reg.io/team/img@sha256:abc", "img"])
_sizes = st.sampled_from([256, 512, "1024", "2 vcpu"])
_junk: Strategy = st.sampled_from([5, True, "text", ["a"], {"a": 1}])


def _some(**fields: Strategy) -> Strategy:
    """Objects with most of the fields: Hypothesis prefers what stands first, and the absent stands last."""
    drawn = st.fixed_dictionaries(
        {name: st.one_of(values, values, values, st.just(_ABSENT)) for name, values in fields.items()}
    )
    return drawn.map(lambda document: {name: value for name, value in document.items() if value is not _ABSENT})


def _named(values: Strategy, name: str = "name") -> Strategy:
    return st.lists(
        st.fixed_dictionaries({name: _variables, "value": values}), max_size=3, unique_by=lambda entry: str(entry[name])
    )


def _rarely(junk: Strategy, usual: Strategy) -> Strategy:
    """`usual` in all but about one of twenty."""
    return st.integers(0, 19).flatmap(lambda dice: junk if dice == 13 else usual)


_container = _some(cpu=st.integers(1, 99), memory=st.integers(1, 99), environment=_named(_texts)).flatmap(
    lambda rest: st.sampled_from(["flow", "proxy", "log"]).map(lambda name: {**rest, "name": name})
)
_override = _container
_containers = st.lists(_container, max_size=3, unique_by=lambda container: str(container["name"]))
_defined_containers = st.lists(
    st.tuples(_container, _some(image=_images, essential=st.booleans())).map(lambda parts: {**parts[0], **parts[1]}),
    max_size=3,
    unique_by=lambda container: str(container["name"]),
)
_overrides = _some(
    containerOverrides=_rarely(_junk.filter(bool), _containers),
    cpu=_sizes,
    memory=_sizes,
    taskRoleArn=_roles,
    executionRoleArn=_roles,
)
_template = _some(
    family=st.just("mine"),
    networkMode=st.sampled_from(["awsvpc", "bridge"]),
    cpu=_sizes,
    memory=_sizes,
    taskRoleArn=_roles,
    executionRoleArn=_roles,
    requiresCompatibilities=st.just(["EC2"]),
    tags=st.just([{"key": "team", "value": "x"}]),
    containerDefinitions=_defined_containers,
)


def _with_flow_container(template: Any) -> Any:
    """A run's own template as Prefect can launch it: it has a container `flow`."""
    if not isinstance(template, dict) or not template:
        return template
    containers = template.get("containerDefinitions", [])
    if any(container["name"] == "flow" for container in containers):
        return template
    return {**template, "containerDefinitions": [*containers, {"name": "flow"}]}


def _arguments(clusters: list[str]) -> Strategy:
    ways: Strategy = st.sampled_from(
        [{}, {}, {"launchType": "EC2"}, {"launchType": "FARGATE"}, {"capacityProviderStrategy": SPOT}]
    )
    others = _some(
        cluster=st.sampled_from(clusters),
        networkConfiguration=st.just(NETWORK),
        overrides=_overrides,
        tags=st.just([{"key": "owner", "value": "y"}]),
        count=st.just(1),
        startedBy=st.just("me"),
        group=st.just("g"),
        enableECSManagedTags=st.booleans(),
    )
    return st.tuples(ways, others).map(lambda parts: {**parts[0], **parts[1]})


def _run_configs(given_definition: bool) -> Strategy:
    env = _rarely(_junk, st.dictionaries(st.sampled_from(["A", "B", "PREFECT__BACKEND"]), _texts, max_size=3))
    plain = _some(
        env=env,
        cpu=_rarely(_junk, st.sampled_from(["256", "1 vcpu"])),
        memory=st.sampled_from(["512", "2 GB"]),
        task_role_arn=_roles,
        execution_role_arn=_rarely(_junk, _roles),
        run_task_kwargs=_rarely(_junk, _arguments([ALLOWED_CLUSTER])),
    )
    source = (
        st.just({"task_definition_arn": "own:1"})
        if given_definition
        else _some(
            task_definition=_rarely(_junk, _template.map(_with_flow_container)),
            image=_rarely(_junk, _images),
        )
    )
    ours = st.tuples(plain, source).map(lambda parts: {"type": "ECSRun", "labels": [], **parts[0], **parts[1]})
    others = _some(env=env, image=_images).flatmap(
        lambda fields: st.sampled_from(["UniversalRun"] * 4 + ["LocalRun"]).map(lambda kind: {"type": kind, **fields})
    )
    return ours | ours | ours | ours | ours | others | st.none()


_described = st.tuples(_template, _defined_containers).map(
    lambda parts: {
        **parts[0],
        "containerDefinitions": [
            *[container for container in parts[1] if container["name"] != "flow"],
            {"name": "flow", "image": "own:1"},
        ],
    }
)
_agent = _some(
    labels=st.lists(_texts, min_size=1, max_size=3),
    env_vars=st.dictionaries(_variables, _texts, min_size=1, max_size=3),
    no_cloud_logs=st.booleans(),
    launch_type=st.sampled_from(["FARGATE", "EC2"]),
    cluster=st.sampled_from(["prod"]),
    task_role_arn=_roles,
    execution_role_arn=_roles,
    task_definition_path=_template,
    run_task_kwargs_path=_arguments(["mine"]),
)
_flow = _some(
    core_version=st.sampled_from(["0.12.6", "0.13.0", "0.15.3+7.gab", "1.4.1", "1.0rc1", "", None]),
    storage=st.sampled_from(
        [
            {"type": "S3", "bucket": "x"},
            {"type": "GitHub", "repo": "x/y", "path": "f.py"},
            {"type": "Docker", "image_name": "a", "image_tag": "b", "registry_url": "r.io"},
        ]
    ),
)
_prefect = _some(api_key=st.just("pcu_key"), log_level=st.sampled_from(["DEBUG", "ERROR"]), backend=st.just("cloud"))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A flow run of any kind for an agent of any kind."""
    own_definition = draw(st.sampled_from([False, True, False]))
    return Case(
        "generated",
        run_config=draw(_run_configs(own_definition)),
        flow=draw(_flow),
        agent=draw(_agent),
        prefect=draw(_prefect),
        described=draw(_described) if own_definition else None,
    )
