"""Generated cases: whatever people may write, left out what the tables of differences say."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.oracle.work_pool_task_cases import DESCRIBED, KEY_SECRET, NETWORK, OWN, ROLE, SPOT, Case

Strategy = st.SearchStrategy[Any]

_ABSENT = object()
_PLACEHOLDERS = {
    "launchType": "{{ launch_type }}",
    "tags": "{{ labels }}",
    "taskDefinition": "{{ task_definition_arn }}",
    "capacityProviderStrategy": "{{ capacity_provider_strategy }}",
}

_texts = st.text(st.sampled_from("ab1-_. ,'é()/:{x"), max_size=9)
_names = st.sampled_from(["A", "B", "C", "PREFECT_API_URL", "PREFECT_LOGGING_LEVEL"])
_roles = st.sampled_from([ROLE + "one", ROLE + "two"])
_sizes = st.sampled_from([256, 512, 1024])


def _some(**fields: Strategy) -> Strategy:
    """Objects with most of the fields."""
    drawn = st.fixed_dictionaries(
        {name: st.one_of(values, values, st.just(_ABSENT)) for name, values in fields.items()}
    )
    return drawn.map(lambda document: {name: value for name, value in document.items() if value is not _ABSENT})


def _few(**fields: Strategy) -> Strategy:
    """Objects with few of the fields."""
    drawn = st.fixed_dictionaries(
        {name: st.one_of(st.just(_ABSENT), st.just(_ABSENT), values) for name, values in fields.items()}
    )
    return drawn.map(lambda document: {name: value for name, value in document.items() if value is not _ABSENT})


_env = st.dictionaries(_names, _texts | st.none(), max_size=3)
_variables = _few(
    image=st.sampled_from(["img:1", "reg.io/team/img@sha256:abc"]),
    command=st.sampled_from(["python x.py", "sh -c 'a b'"]),
    env=_env,
    labels=st.dictionaries(
        st.sampled_from(["team", "prefect.io/flow-name", "a/b"]), _texts.filter(str.strip), max_size=3
    ),
    cpu=_sizes,
    memory=_sizes,
    launch_type=st.sampled_from(["FARGATE", "FARGATE_SPOT", "EC2", "EXTERNAL"]),
    capacity_provider_strategy=st.sampled_from([SPOT, []]),
    cluster=st.just("listed"),
    family=st.sampled_from(["mine", "my_flows"]),
    container_name=st.sampled_from(["prefect", "proxy", "mine"]),
    task_role_arn=_roles,
    execution_role_arn=_roles,
    vpc_id=st.sampled_from(["vpc-1", "vpc-default"]),
    network_configuration=st.sampled_from([{"subnets": ["subnet-1"], "assignPublicIp": "DISABLED"}]),
    configure_cloudwatch_logs=st.booleans(),
    cloudwatch_logs_prefix=st.just("prefix"),
    cloudwatch_logs_options=st.just({"awslogs-group": "mine"}),
    auto_deregister_task_definition=st.just(False),
    match_latest_revision_in_family=st.booleans(),
)


def _entries(values: Strategy) -> Strategy:
    return st.lists(
        st.fixed_dictionaries({"name": _names, "value": values}), max_size=3, unique_by=lambda entry: str(entry["name"])
    )


def _containers(env: Strategy) -> Strategy:
    def container(name: str) -> Strategy:
        fields = _some(environment=env, essential=st.booleans(), cpu=st.integers(1, 9), links=st.just([]))
        return st.tuples(fields, st.just({"name": name, "image": f"{name}:1"})).map(lambda parts: parts[0] | parts[1])

    return st.lists(st.sampled_from(["prefect", "proxy", "mine"]), min_size=1, max_size=3, unique=True).flatmap(
        lambda names: st.tuples(*(container(name) for name in names)).map(list)
    )


_definition = _some(
    cpu=st.sampled_from(["{{ cpu }}", 512, "1024"]),
    memory=st.sampled_from(["{{ memory }}", 1024]),
    family=st.sampled_from(["{{ family }}", "literal"]),
    taskRoleArn=_roles,
    networkMode=st.sampled_from(["awsvpc"] * 5 + ["bridge"]),
    requiresCompatibilities=st.sampled_from([["FARGATE"], ["FARGATE"], ["EC2", "FARGATE"], ["EC2"]]),
    volumes=st.just([]),
    tags=st.just([{"key": "team", "value": "x"}]),
)


def _with_containers(document: Strategy, containers: Strategy, **rest: str) -> Strategy:
    return st.tuples(document, containers).map(lambda parts: {**parts[0], **rest, "containerDefinitions": parts[1]})


_override = st.fixed_dictionaries(
    {"environment": st.just("{{ env }}")},
    optional={
        "command": st.sampled_from(["{{ command }}", "sleep 1"]),
        "cpu": st.just("{{ cpu }}"),
        "name": st.just("{{ container_name }}"),
    },
)
_request = st.fixed_dictionaries(
    {
        **{name: st.just(text) for name, text in _PLACEHOLDERS.items()},
        "cluster": st.sampled_from(["{{ cluster }}", "{{ cluster }}", "literal"]),
        "overrides": st.tuples(
            st.lists(_override, min_size=1, max_size=1),
            _some(taskRoleArn=st.just("{{ task_role_arn }}"), cpu=st.just("{{ cpu }}"), executionRoleArn=_roles),
        ).map(lambda parts: {**parts[1], "containerOverrides": parts[0]}),
    },
    optional={
        "networkConfiguration": st.just(NETWORK),
        "enableECSManagedTags": st.booleans(),
        "group": st.just("g"),
    },
)
_configuration = _few(
    task_definition=_with_containers(
        _definition, _containers(_entries(_texts)), executionRoleArn="{{ execution_role_arn }}"
    ),
    task_run_request=_request,
)
_described = _with_containers(
    _few(
        networkMode=st.sampled_from(["awsvpc", "bridge"]),
        requiresCompatibilities=st.sampled_from([["FARGATE"], ["EC2"], ["EC2", "FARGATE"]]),
        executionRoleArn=_roles,
    ),
    _containers(_entries(_texts)),
)


def _mend(variables: dict[str, Any]) -> None:
    """Give the variables what they need of each other."""
    if "network_configuration" in variables:
        variables.update(vpc_id="vpc-1", network_configuration={"subnets": ["subnet-1"]})
    if "cloudwatch_logs_options" in variables:
        variables["configure_cloudwatch_logs"] = True
    if variables.get("configure_cloudwatch_logs"):
        variables["execution_role_arn"] = ROLE + "one"
    variables.pop("container_name", None)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A flow run of a work pool of any kind."""
    variables, own, described = draw(_variables), draw(_few(env=_env, cpu=_sizes)), None
    if draw(st.integers(0, 3)):
        _mend(variables)
    sign_in = draw(st.sampled_from(["", "", "api_key", "auth_string", "secret"]))
    if sign_in == "secret":
        variables.update(prefect_api_key_secret_arn=KEY_SECRET, execution_role_arn=ROLE + "one")
    configuration = draw(_configuration)
    if draw(st.integers(0, 4)) == 0 and sign_in != "secret":
        variables["task_definition_arn"], described = OWN, {**DESCRIBED, **draw(_described)}
        for container in configuration.get("task_definition", {}).get("containerDefinitions", ()):
            container.pop("essential", None)
    return Case(
        "generated",
        variables=variables,
        own_variables=own,
        defaults=draw(_few(env=_env, cluster=st.just("pool-cluster"), image=st.just("pool:1"))),
        configuration=configuration,
        settings={"api_key" if sign_in == "secret" else sign_in: "key"} if sign_in else {},
        described=described,
        run_name=draw(_texts.filter(lambda text: bool(text.strip(" -'")))),
        has_deployment=draw(st.sampled_from([True, True, True, False])) or bool(variables),
    )
