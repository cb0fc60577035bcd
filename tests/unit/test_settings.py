"""Where settings come from, what they may look like, and how wrong ones are told."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from chalicelib.errors import SettingsError
from chalicelib.settings import SETTINGS, Given, load_settings, settle

SECRET_ARN = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:prefect/key-Ab12Cd"
PARAMETER_ARN = "arn:aws-us-gov:ssm:us-gov-west-1:111122223333:parameter/prefect/key"
ROLE_ARN = "arn:aws:iam::111122223333:role/flows"
TENANT = "6e3ad6c1-55a2-4a16-8e1a-3c1b6f0c3b52"
CANARY = "pnu_8Qcanary"


def problems(environment: dict[str, str], flags: dict[str, Any] | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environment, flags)
    return caught.value.problems


# The table and the fields


def test_every_name_is_there_once() -> None:
    for names in ([s.env for s in SETTINGS], [s.field for s in SETTINGS], [flag for s in SETTINGS for flag in s.flags]):
        assert len(names) == len(set(names))


def test_every_default_is_what_its_own_parser_answers_for_it() -> None:
    scalars = [s for s in SETTINGS if s.default not in (None, (), {})]
    assert len(scalars) > 10
    assert [s.parse(str(s.default)) for s in scalars] == [s.default for s in scalars]


def test_settings_import_nothing_heavy() -> None:
    code = "import sys, chalicelib.settings; print({'boto3', 'botocore', 'requests', 'yaml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_what_belongs_to_the_other_platform_does_no_harm() -> None:
    environment = {"AGENT_CLUSTER": "flows", "AGENT_EKS_CLUSTER": "main", "AGENT_API_KEY_SECRET": "prefect/api-key"}
    for platform in ("ecs", "kubernetes"):
        settings = load_settings({**environment, "AGENT_PLATFORM": platform})
        assert (settings.platform, settings.cluster, settings.eks_cluster) == (platform, "flows", "main")


def test_every_kubernetes_setting_that_is_wrong_is_told_at_once() -> None:
    wrong = {
        "AGENT_PLATFORM": "nomad",
        "AGENT_KUBERNETES_NAMESPACE": "Flows",
        "AGENT_EKS_CLUSTER": "arn:aws:eks:eu-west-1:1:cluster/main",
        "AGENT_IMAGE_PULL_SECRETS": "one,Two",
        "AGENT_IMAGE_PULL_POLICY": "Sometimes",
        "AGENT_JOB_TTL_SECONDS": "10",
        "AGENT_API_KEY_SECRET": "prefect",
        "AGENT_SERVICE_ACCOUNT_NAME": "a/b",
    }
    assert sorted(line.split(":")[0] for line in problems(wrong)) == sorted(wrong)


def test_an_eks_cluster_and_a_kubeconfig_contradict_each_other() -> None:
    (problem,) = problems({"AGENT_EKS_CLUSTER": "main", "AGENT_KUBECONFIG": "/config"})
    assert problem.startswith("AGENT_KUBECONFIG: an EKS cluster is signed in to without a kubeconfig")


# Layers


def test_nothing_given_is_a_local_prefect_server_and_no_cluster_of_ours() -> None:
    settings = load_settings({})
    assert (settings.backend, settings.api_url) == ("server", "http://localhost:4200")
    assert (settings.name, settings.labels, settings.cluster) == ("agent", (), None)
    assert (settings.max_polls, settings.launch_type, settings.secret_reference) == (None, None, None)


def test_a_flag_beats_the_environment_which_beats_the_default() -> None:
    environment = {"AGENT_CLUSTER": "from-environment", "PREFECT__CLOUD__AGENT__NAME": "from-environment"}
    settings = load_settings(environment, {"cluster": "from-flag"})
    assert (settings.cluster, settings.name, settings.log_level) == ("from-flag", "from-environment", "INFO")


def test_a_further_layer_takes_its_place_between_the_others() -> None:
    def layer(**values: str) -> dict[str, Given]:
        return {name: Given(value, f"~/.prefect/config.toml {name}") for name, value in values.items()}

    settings = settle([{"name": Given("strong", "NAME")}, layer(name="weak", cluster="filed")])
    assert (settings.name, settings.cluster) == ("strong", "filed")
    with pytest.raises(SettingsError, match=r"^~/\.prefect/config\.toml max_polls: "):
        settle([layer(max_polls="many")])


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_value_counts_as_not_given(empty: str) -> None:
    environment = {setting.env: empty for setting in SETTINGS}
    assert load_settings(environment, {"cluster": empty, "labels": [], "env_vars": {}}) == load_settings({})


def test_flags_may_have_their_final_types() -> None:
    flags = {"labels": ["b", "a"], "env_vars": {"A": "1"}, "max_polls": 3, "send_flow_run_logs": False}
    settings = load_settings({"PREFECT__CLOUD__SEND_FLOW_RUN_LOGS": "true"}, flags)
    assert (settings.labels, settings.env_vars, settings.max_polls) == (("a", "b"), {"A": "1"}, 3)
    assert settings.send_flow_run_logs is False


def test_an_unknown_flag_is_an_error() -> None:
    assert problems({}, {"clustr": "x"}) == ("clustr: no such setting; did you mean cluster?",)


# Keys and tokens


@pytest.mark.parametrize("credential", ["PREFECT__CLOUD__API_KEY", "PREFECT__CLOUD__AGENT__AUTH_TOKEN"])
def test_a_key_or_a_token_means_prefect_cloud(credential: str) -> None:
    settings = load_settings({credential: CANARY})
    assert (settings.backend, settings.api_url) == ("cloud", "https://api.prefect.io")
    assert CANARY in (settings.plain_api_key, settings.plain_auth_token)


def test_the_backend_and_the_url_may_be_said_explicitly() -> None:
    settings = load_settings({"PREFECT__CLOUD__API_KEY": CANARY, "PREFECT__BACKEND": "SERVER"})
    assert (settings.backend, settings.api_url) == ("server", "http://localhost:4200")
    assert load_settings({"PREFECT__CLOUD__API": "http://prefect.internal:4200"}).backend == "server"


def test_the_cloud_without_a_key_is_an_error() -> None:
    expected = "PREFECT__BACKEND: Prefect Cloud needs an API key; set PREFECT__CLOUD__API_KEY"
    assert problems({"PREFECT__BACKEND": "cloud"}) == (expected,)


@pytest.mark.parametrize(
    "reference", [SECRET_ARN, f"{SECRET_ARN}:key::", f"{SECRET_ARN}:key:AWSCURRENT:", PARAMETER_ARN]
)
@pytest.mark.parametrize("name", ["PREFECT__CLOUD__API_KEY", "PREFECT__CLOUD__AGENT__AUTH_TOKEN"])
def test_an_arn_is_a_reference_and_no_plain_key(name: str, reference: str) -> None:
    settings = load_settings({name: reference})
    assert settings.secret_reference == reference
    assert (settings.plain_api_key, settings.plain_auth_token) == (None, None)


def test_an_arn_of_something_else_is_an_error() -> None:
    assert "neither of a Secrets Manager secret nor" in problems({"PREFECT__CLOUD__API_KEY": ROLE_ARN})[0]


@pytest.mark.parametrize("token", ["plain-token", SECRET_ARN])
def test_of_key_and_token_in_the_environment_the_key_is_used(token: str) -> None:
    settings = load_settings({"PREFECT__CLOUD__API_KEY": CANARY, "PREFECT__CLOUD__AGENT__AUTH_TOKEN": token})
    assert (settings.plain_api_key, settings.plain_auth_token, settings.secret_reference) == (CANARY, None, None)


def test_of_key_and_token_by_flag_the_key_is_used() -> None:
    settings = load_settings({}, {"api_key": CANARY, "auth_token": "token"})
    assert (settings.plain_api_key, settings.plain_auth_token) == (CANARY, None)


def test_a_token_by_flag_sets_aside_a_key_in_the_environment() -> None:
    settings = load_settings({"PREFECT__CLOUD__API_KEY": "key"}, {"auth_token": "token"})
    assert (settings.plain_api_key, settings.plain_auth_token) == (None, "token")


# Problems


def test_three_mistakes_are_told_at_once() -> None:
    mistakes = {"AGENT_CLUSTR": "x", "PREFECT__CLOUD__TENANT_ID": "me", "AGENT_CADENCE_SECONDS": "61"}
    assert problems(mistakes) == (
        "AGENT_CLUSTR: no such setting; did you mean AGENT_CLUSTER?",
        f'PREFECT__CLOUD__TENANT_ID: "me" is not a UUID such as {TENANT}',
        'AGENT_CADENCE_SECONDS: "61" is not a whole number from 1 to 60',
    )


def test_prefect_3s_address_without_a_work_pool_is_refused_unless_prefect_1_is_named_too() -> None:
    environment = {"PREFECT_API_URL": "https://prefect.example.org/api"}
    with pytest.raises(SettingsError, match=r"PREFECT_API_URL: .* no work pool is named: AGENT_WORK_POOLS"):
        load_settings(environment)
    assert load_settings(environment, {"work_pools": ["a"]}).api_url == environment["PREFECT_API_URL"]
    for name, value in (("PREFECT__CLOUD__API", "https://one.example.org"), ("PREFECT__CLOUD__API_KEY", "key")):
        assert load_settings({**environment, name: value}).api_url != environment["PREFECT_API_URL"]


@pytest.mark.parametrize("name", ["PREFECT__CLOUD__APIKEY", "PREFECT__CLOUD__API_KYE", "PREFECT__CLOUD__AGENT__LABLES"])
def test_names_that_are_almost_right_are_refused_with_the_right_one(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: no such setting; did you mean PREFECT__CLOUD__"):
        load_settings({name: "x"})


def test_names_that_are_prefects_own_or_somebody_elses_are_left_alone() -> None:
    others = {"PREFECT__CLOUD__AGENT__AGENT_CONFIG": "x", "PREFECT__CONTEXT__FLOW_RUN_ID": "x", "PATH": "/bin"}
    assert load_settings(others) == load_settings({})


WRONG = [
    ("PREFECT__CLOUD__API", "localhost:4200", "is not an http:// or https:// URL"),
    ("PREFECT__CLOUD__API", "http://", "is not an http:// or https:// URL"),
    ("PREFECT__CLOUD__API", "http://host:port", "is not an http:// or https:// URL"),
    ("PREFECT__CLOUD__API", "https://me:hidden@host", "must not hold a user name or password"),
    ("PREFECT__BACKEND", "clod", '"clod" is not one of server, cloud'),
    ("PREFECT__CLOUD__API_KEY", "two words", "holds white space"),
    ("PREFECT__CLOUD__AGENT__LABELS", "dev", "is not a list of labels such as"),
    ("PREFECT__CLOUD__AGENT__LABELS", '{"dev": 1}', "is not a list of labels such as"),
    ("PREFECT__CLOUD__AGENT__LABELS", "[" * 100_000, "is not a list of labels such as"),
    ("PREFECT__CLOUD__AGENT__LABELS", "[1]", '"1" is not a label'),
    ("PREFECT__CLOUD__AGENT__LABELS", '["a,b"]', '"a,b" is not a label: a text without a comma'),
    ("PREFECT__CLOUD__AGENT__ENV_VARS", "A=1", "is not an object of texts such as"),
    ("PREFECT__CLOUD__AGENT__ENV_VARS", '{"A": 1}', 'gives "A" a value that is not a text'),
    ("PREFECT__CLOUD__AGENT__ENV_VARS", '{"": "1"}', "has a variable without a name"),
    ("PREFECT__CLOUD__AGENT__LEVEL", "LOUD", "is not one of DEBUG, INFO"),
    ("PREFECT__CLOUD__AGENT__MAX_POLLS", "-1", "is not a whole number from 0"),
    ("PREFECT__CLOUD__AGENT__MAX_POLLS", "1.0", "is not a whole number from 0"),
    ("PREFECT__CLOUD__SEND_FLOW_RUN_LOGS", "perhaps", "is not one of true, false, 1, 0"),
    ("AGENT_CLUSTER", "my cluster", "is not a cluster's name or ARN"),
    ("AGENT_CLUSTERS", ",", "is not a comma separated list"),
    ("AGENT_LAUNCH_TYPE", "EXTERNAL", "is not one of FARGATE, EC2"),
    ("AGENT_TASK_ROLE_ARN", "flows", "is not a role's ARN"),
    ("AGENT_EXECUTION_ROLE_ARN", "arn:aws:iam::1:user/x", "is not a role's ARN"),
    ("AGENT_SUBNETS", "sg-1", "is not a subnet"),
    ("AGENT_SECURITY_GROUPS", "sg-1", "needs subnets; set AGENT_SUBNETS too"),
    ("AGENT_TEMPLATE_PATHS", "templates", "is not an absolute directory or"),
    ("AGENT_TEMPLATE_PATHS", "/", "is not an absolute directory or"),
    ("AGENT_TEMPLATE_PATHS", "/srv/../etc", "is not an absolute directory or"),
    ("AGENT_TEMPLATE_PATHS", "s3://bucket/prefix", "is not an absolute directory or"),
    ("AGENT_TEMPLATE_PATHS", "https://host/", "is not an absolute directory or"),
    ("AGENT_LAUNCHES_PER_SECOND", "-1", "is not a number from 0"),
    ("AGENT_LAUNCHES_PER_SECOND", "nan", "is not a number from 0"),
    ("AGENT_LAUNCHES_PER_SECOND", "inf", "is not a number from 0"),
]


@pytest.mark.parametrize(("name", "value", "expected"), WRONG)
def test_a_wrong_value_is_one_line_with_its_name(name: str, value: str, expected: str) -> None:
    (problem,) = problems({name: value})
    assert problem.startswith(f"{name}: ")
    assert expected in problem
    assert "hidden" not in problem


RIGHT = [
    ("PREFECT__CLOUD__TENANT_ID", TENANT.upper(), "tenant_id", TENANT.upper()),
    ("PREFECT__CLOUD__AGENT__LABELS", "['b', 'a', 'b']", "labels", ("a", "b")),
    ("PREFECT__CLOUD__AGENT__LABELS", "[]", "labels", ()),
    ("PREFECT__CLOUD__AGENT__ENV_VARS", "{'A': 'x=y'}", "env_vars", {"A": "x=y"}),
    ("PREFECT__CLOUD__AGENT__LEVEL", "debug", "log_level", "DEBUG"),
    ("PREFECT__CLOUD__SEND_FLOW_RUN_LOGS", "False", "send_flow_run_logs", False),
    ("AGENT_CLUSTERS", " a, b,,a ", "allowed_clusters", ("a", "b")),
    ("AGENT_CLUSTER", "arn:aws:ecs:eu-west-1:111122223333:cluster/flows", "cluster", None),
    ("AGENT_LAUNCH_TYPE", "ec2", "launch_type", "EC2"),
    ("AGENT_TASK_ROLE_ARN", ROLE_ARN, "task_role_arn", ROLE_ARN),
    ("AGENT_SUBNETS", "subnet-1,subnet-2", "subnets", ("subnet-1", "subnet-2")),
    ("AGENT_ASSIGN_PUBLIC_IP", "0", "assign_public_ip", False),
    ("AGENT_TEMPLATE_PATHS", "/srv/t/,s3://bucket/,s3://bucket/a/b/", "template_paths", None),
    ("AGENT_LAUNCHES_PER_SECOND", "0.5", "launches_per_second", 0.5),
    ("AGENT_LAUNCHES_PER_SECOND", "0", "launches_per_second", 0.0),
]


@pytest.mark.parametrize(("name", "value", "field", "expected"), RIGHT)
def test_a_right_value_arrives_with_its_type(name: str, value: str, field: str, expected: Any) -> None:
    expected = expected if expected is not None else (tuple(value.split(",")) if "," in value else value)
    assert getattr(load_settings({name: value}), field) == expected


def test_an_assignment_without_an_equals_sign_is_told_without_its_text() -> None:
    assert problems({}, {"env_vars": ["A=1", CANARY]}) == ("--env: has no `=` in assignment 2; write NAME=VALUE",)


# Rules for all inputs


@hypothesis.given(st.sampled_from(SETTINGS), st.text())
def test_any_text_makes_settings_or_problems_of_one_line(setting: Any, value: str) -> None:
    try:
        load_settings({setting.env: value})
    except SettingsError as error:
        assert all(problem.splitlines() == [problem] and len(problem) < 300 for problem in error.problems)
        assert all(problem.startswith(f"{setting.env}: ") for problem in error.problems)
    else:
        assert load_settings({setting.env: value}) == load_settings({setting.env: value.strip()})


@hypothesis.given(st.sampled_from([s for s in SETTINGS if s.secret]), st.text(), st.text())
def test_a_secret_is_never_repeated(setting: Any, before: str, after: str) -> None:
    try:
        shown = repr(load_settings({setting.env: before + CANARY + after}))
    except SettingsError as error:
        shown = str(error)
    assert CANARY not in shown


@hypothesis.given(st.lists(st.text(st.characters(exclude_characters=","), min_size=1).filter(str.strip)))
def test_labels_are_the_same_as_json_as_python_and_by_flag(labels: list[str]) -> None:
    name = "PREFECT__CLOUD__AGENT__LABELS"
    as_json, as_python = (load_settings({name: text}).labels for text in (json.dumps(labels), repr(labels)))
    assert as_json == as_python == load_settings({}, {"labels": labels}).labels == tuple(sorted(set(labels)))


@hypothesis.given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="=\0"), min_size=1).filter(str.strip),
        st.text(st.characters(exclude_characters="\0")),
    )
)
def test_variables_are_the_same_as_json_as_python_and_by_flag(variables: dict[str, str]) -> None:
    name = "PREFECT__CLOUD__AGENT__ENV_VARS"
    as_json, as_python = (load_settings({name: text}).env_vars for text in (json.dumps(variables), repr(variables)))
    by_flag = load_settings({}, {"env_vars": [f"{key}={value}" for key, value in variables.items()]}).env_vars
    assert as_json == as_python == by_flag == variables
