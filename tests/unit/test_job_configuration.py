"""The job configuration of a work pool's run."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.builders.job_configuration import FLOW_RUN_COMMAND, find_references, render_job_configuration
from chalicelib.errors import UnsupportedRun
from chalicelib.flow_runs import Flow, FlowRun, WorkPoolJob

Json = dict[str, Any]

SECRET = "s3cr3t-of-the-block"
BLOCK = "prefect.blocks.secret.token"
BLOCK_ID = "12345678-1234-4123-8123-1234567890ab"

NAMES = st.sampled_from(["a", "b", "c"])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
PLACEHOLDERS = st.sampled_from(
    [
        "{{ a }}",
        "x{{ b }}",
        "{{ c }}{{ a }}",
        "{{ nope }}",
        "{{ a.b[0] }}",
        f"{{{{ {BLOCK} }}}}",
        "{{ prefect.variables.v }}",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS | PLACEHOLDERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | TEXTS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(
    st.sampled_from(["a", "b", "p", "q", "env", "name", "labels", "$ref", "a.b", "a.b.c", "env.A"]), VALUES, max_size=5
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS.filter(lambda text: "{{" not in text),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def job_of(
    configuration: Any,
    defaults: Json | None = None,
    general: Any = None,
    own: Any = None,
    references: Json | None = None,
    pool_type: str = "ecs",
) -> WorkPoolJob:
    properties = {name: {"default": value} for name, value in (defaults or {}).items()}
    template = {"job_configuration": configuration, "variables": {"properties": properties}}
    return WorkPoolJob(
        pool={"name": "pool", "type": pool_type, "base_job_template": template},
        flow_run={"id": "run-1", "name": "sly-fox", "job_variables": own, "tags": ["x"]},
        deployment={"job_variables": general},
        references=references or {},
    )


def run_of(job: WorkPoolJob | None) -> FlowRun:
    return FlowRun("run-1", "sly-fox", 1, datetime(2026, 1, 1, tzinfo=UTC), Flow("flow-1", "etl"), job=job)


def configured(configuration: Any, *arguments: Any, **options: Any) -> Json:
    return render_job_configuration(run_of(job_of(configuration, *arguments, **options)))


def refusal(job: WorkPoolJob | None) -> str:
    with pytest.raises(UnsupportedRun) as raised:
        render_job_configuration(run_of(job))
    return str(raised.value)


def test_what_every_configuration_has_is_there_without_being_asked_for() -> None:
    assert configured({}) == {"command": FLOW_RUN_COMMAND, "name": "sly-fox", "labels": {}, "env": {}}


def test_the_run_wins_over_its_deployment_and_that_over_the_default() -> None:
    template = {"a": "{{ a }}", "b": "{{ b }}", "c": "{{ c }}", "d": "{{ d }}"}
    rendered = configured(template, {"a": 1, "b": 1, "c": 1}, {"b": 2, "c": 2}, {"c": 3})
    assert [rendered.get(name) for name in "abcd"] == [1, 2, 3, None]
    assert "d" not in rendered


def test_env_is_merged_from_all_who_have_a_say() -> None:
    env = {"T": "template", "A": "template", "B": "template", "C": "template"}
    rendered = configured(
        {"env": env}, {"env": {"A": 1, "B": 1, "C": 1}}, {"env": {"B": 2, "C": 2}}, {"env": {"C": None}}
    )
    assert rendered["env"] == {"T": "template", "A": "1", "B": "2", "C": None}


def test_a_name_tells_of_the_flow_and_the_run() -> None:
    rendered = configured({"name": "{{ name }}"}, {}, {"name": "{{ ctx.flow.name }}-{{ ctx.flow_run.tags[0] }}"})
    assert rendered["name"] == "etl-x"


def test_a_secret_block_a_block_by_id_and_a_variable_are_filled_in() -> None:
    references = {
        BLOCK: {"value": SECRET},
        f"block_document_id:{BLOCK_ID}": {"user": "{{ prefect.variables.who }}"},
        "prefect.variables.who": "me",
    }
    template = {
        "token": f"Bearer {{{{ {BLOCK} }}}}",
        "by_id": {"$ref": {"block_document_id": BLOCK_ID.upper()}},
        "missing": "{{ prefect.variables.nope }}",
    }
    rendered = configured(template, references=references)
    assert rendered["token"] == f"Bearer {SECRET}"
    assert rendered["by_id"] == {"user": "me"}
    assert rendered["missing"] == ""


@pytest.mark.parametrize(
    ("path", "found"), [("", {"a": [5]}), (".a[0]", 5), (".value.a[0]", 5), (".value", {"a": [5]})]
)
def test_a_block_of_a_value_alone_is_that_value_with_and_without_saying_so(path: str, found: Any) -> None:
    assert configured({"x": f"{{{{ {BLOCK}{path} }}}}"}, references={BLOCK: {"value": {"a": [5]}}})["x"] == found


def test_references_are_found_wherever_they_come_from() -> None:
    job = job_of(
        {"x": "{{ x }}", "y": "a{{ prefect.variables.one }}b", "r": {"$ref": {"block_document_id": BLOCK_ID}}},
        {"x": {"deep": [f"{{{{ {BLOCK}.path[0].x }}}}"]}, "unused": "{{ prefect.variables.unused }}"},
        {"env": {"A": "{{ prefect.variables.other }}"}},
    )
    assert find_references(job) == {BLOCK, f"block_document_id:{BLOCK_ID}", "prefect.variables.one"}
    with_env = replace(job, pool=job_of({"env": "{{ env }}"}).pool)
    assert find_references(with_env) == {"prefect.variables.other"}


def test_variables_that_a_block_names_are_found_once_the_block_is_known() -> None:
    job = job_of({"x": f"{{{{ {BLOCK} }}}}"})
    assert find_references(job) == {BLOCK}
    known = replace(job, references={BLOCK: {"value": "{{ prefect.variables.v }}"}})
    assert find_references(known) == {BLOCK, "prefect.variables.v"}


@pytest.mark.parametrize(
    "name",
    [
        "prefect.blocks.secret",
        "prefect.blocks...",
        "prefect.blocks.secret.[0]",
        "prefect.variables.",
        "prefect.variables...",
        "prefect.variables.größe",
        "prefect.blocks.secret.größe",
    ],
)
def test_a_name_under_which_nothing_can_be_stored_is_not_asked_for(name: str) -> None:
    assert find_references(job_of({"x": f"{{{{ {name} }}}}"})) == frozenset()


@pytest.mark.parametrize("block_id", ["../../admin", "keys", 5, ["a"], {"a": 1}])
def test_an_id_that_is_none_is_refused_and_not_asked_for(block_id: Any) -> None:
    job = job_of({"x": {"$ref": {"block_document_id": block_id}}})
    assert find_references(job) == frozenset()
    assert "not the id of a block" in refusal(job)


def test_all_missing_blocks_are_named_at_once_with_what_to_do() -> None:
    job = job_of(
        {"x": f"{{{{ {BLOCK} }}}}", "y": {"$ref": {"block_document_id": BLOCK_ID}}, "z": f"-{{{{ {BLOCK} }}}}"}
    )
    reason = refusal(job)
    assert reason.count(BLOCK) == reason.count(BLOCK_ID) == 1
    assert "create it" in reason


@pytest.mark.parametrize(
    ("name", "instead"), [("aws_credentials", "give the agent's role"), ("cluster_config", "its kubeconfig")]
)
@pytest.mark.parametrize("value", [{"key": SECRET}, f"{{{{ {BLOCK} }}}}", {"$ref": {"block_document_id": BLOCK_ID}}])
def test_other_credentials_than_the_agents_are_refused_and_never_read(name: str, instead: str, value: Any) -> None:
    job = job_of({name: "{{ credentials }}"}, {"credentials": value})
    assert find_references(job) == frozenset()
    reason = refusal(job)
    assert name in reason
    assert instead in reason
    assert SECRET not in reason


@pytest.mark.parametrize("name", ["aws_credentials", "cluster_config"])
def test_credentials_left_empty_are_no_matter(name: str) -> None:
    assert configured({name: "{{ x }}"}, {}, {"x": None})[name] is None
    assert configured({name: "{{ x }}"}, {}, {"x": {}})[name] == {}
    assert name not in configured({name: "{{ x }}"})


@pytest.mark.parametrize(
    "job",
    [
        job_of({"x": ["{{ $HOME }}"]}),
        job_of({"x": "a{{$HOME}}b"}),
        job_of({"env": {"A": "{{ $HOME }}"}}),
        job_of({"name": "{{ name }}"}, {}, {"name": "{{ $HOME }}"}),
    ],
)
def test_the_agents_own_environment_is_no_value(job: WorkPoolJob) -> None:
    reason = refusal(job)
    assert "{{ $HOME }}" in reason
    assert "Prefect" in reason


def test_a_value_that_speaks_of_the_environment_is_only_text() -> None:
    rendered = configured({"env": "{{ env }}", "x": "-{{ x }}"}, {"x": "{{ $HOME }}"}, {"env": {"A": "{{ $HOME }}"}})
    assert rendered["env"] == {"A": "{{ $HOME }}"}
    assert rendered["x"] == "-{{ $HOME }}"


@pytest.mark.parametrize(
    ("template", "where"),
    [
        (None, "base job template is null"),
        ([], "base job template is a list"),
        ({}, "job_configuration is null"),
        ({"job_configuration": [], "variables": {}}, "job_configuration is a list"),
        ({"job_configuration": {}}, "variables is null"),
        ({"job_configuration": {}, "variables": "x"}, "variables is text"),
        ({"job_configuration": {}, "variables": {"properties": []}}, "variables.properties is a list"),
        ({"job_configuration": {}, "variables": {"properties": {"a": 5}}}, "variables.properties.a is a number"),
    ],
)
def test_a_template_that_is_none_is_refused_where_it_is_wrong(template: Any, where: str) -> None:
    assert where in refusal(replace(job_of({}), pool={"base_job_template": template}))


@pytest.mark.parametrize(
    ("job", "where"),
    [
        (job_of({}, general=[1]), "the deployment's job_variables is a list"),
        (job_of({}, own="x"), "the flow run's job_variables is text"),
        (job_of({"env": [1]}), "env is a list"),
        (job_of({"env": {}}, general={"env": "x"}), "the variable env is text"),
        (job_of({}, general={"env": {}}, own={"env": 5}), "the variable env is a number"),
        (job_of({"labels": {"a": None}, "command": ["a"], "name": 5}), "command is a list"),
        (job_of({"labels": {"a": None}, "command": ["a"], "name": 5}), "name is a number"),
        (job_of({"labels": {"a": None}, "command": ["a"], "name": 5}), "labels.a is null"),
        (job_of({}, general={"a.b": 1, "a.b.c": 2}), "job variable a.b.c"),
        (None, "belongs to no work pool"),
    ],
)
def test_what_is_of_a_wrong_type_is_refused_where_it_is_wrong(job: WorkPoolJob | None, where: str) -> None:
    assert where in refusal(job)


def test_kubernetes_may_have_its_own_form_of_env() -> None:
    env = [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "n", "key": "k"}}}]
    assert configured({"env": "{{ env }}"}, {}, {"env": env}, pool_type="kubernetes")["env"] == env


def test_a_template_nested_without_end_fails_its_run_alone() -> None:
    deep: Any = "{{ prefect.variables.v }}"
    for _ in range(3000):
        deep = [deep]
    job = job_of({"x": deep})
    assert "nested too deeply" in refusal(job)
    assert find_references(job) == frozenset()


@given(OBJECTS, OBJECTS, OBJECTS, OBJECTS)
def test_any_documents_are_configured_or_refused_and_never_changed(
    configuration: Json, defaults: Json, general: Json, own: Json
) -> None:
    job = job_of(
        configuration,
        defaults,
        general,
        own,
        {BLOCK: {"value": ["{{ prefect.variables.v }}"]}, "prefect.variables.v": [{}]},
    )
    before = copy.deepcopy(job)
    assert {name.rpartition(".")[0] for name in find_references(job)} <= {"prefect.blocks.secret", "prefect.variables"}
    try:
        rendered = render_job_configuration(run_of(job))
    except UnsupportedRun as error:
        assert str(error)
    else:
        assert json.loads(json.dumps(rendered)) == rendered
        assert all(value is None or isinstance(value, str) for value in rendered["env"].values())
        _spoil(rendered)
    assert job == before


def _spoil(document: Any) -> None:
    """Empties a document through and through: what is shared with another is gone there too."""
    for inner in list(document.values() if isinstance(document, dict) else document):
        if isinstance(inner, (dict, list)):
            _spoil(inner)
    document.clear()


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), PLAIN, max_size=3), st.dictionaries(TEXTS, TEXTS, max_size=3))
def test_a_configuration_without_placeholders_is_its_own(document: Json, env: dict[str, str]) -> None:
    plain = {name: value for name, value in env.items() if "{{" not in value}
    once = configured({**document, "env": plain})
    assert configured(once) == once
    assert all(once[name] == value for name, value in {**document, "env": plain}.items())


@given(VALUES.filter(lambda value: "prefect." not in str(value)))
def test_a_value_of_the_job_is_not_searched_for_other_variables(value: Any) -> None:
    others = {"a": "A", "b": "B", "c": "C"}
    rendered = configured({"x": "{{ v }}", "y": "<{{ v }}{{ a }}>"}, {}, {"v": value, **others})
    assert rendered["x"] == value
    assert rendered["y"] == f"<{value}A>"


@given(OBJECTS, OBJECTS)
def test_a_secret_is_in_no_refusal(configuration: Json, variables: Json) -> None:
    for secret in ({"value": SECRET}, {"value": [SECRET]}, {"key": SECRET}):
        job = job_of(configuration, {}, variables, None, {BLOCK: secret, "prefect.variables.v": [SECRET]})
        assert SECRET not in repr(job)
        try:
            render_job_configuration(run_of(job))
        except UnsupportedRun as error:
            assert SECRET not in str(error)


@given(st.dictionaries(TEXTS, st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.lists(TEXTS)))
def test_values_of_env_are_text_or_take_a_variable_away(env: Json) -> None:
    rendered = configured({"env": "{{ env }}"}, {}, {"env": env})["env"]
    literal = {name: value for name, value in env.items() if "{{" not in str(value)}
    assert rendered.keys() == env.keys()
    assert all(rendered[name] == (None if value is None else str(value)) for name, value in literal.items())
