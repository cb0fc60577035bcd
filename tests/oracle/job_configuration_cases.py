"""Work pools, deployments and flow runs whose job configuration both Prefect 3 and this agent are asked for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

FLOW: Json = {
    "id": "aaaaaaaa-0000-4000-8000-00000000000f",
    "created": "2026-11-20T20:00:00.000001Z",
    "updated": "2026-11-20T20:00:00.000001Z",
    "name": "Étude n° 1",
    "tags": ["flow-tag"],
    "labels": {"team": "x"},
}
FLOW_RUN: Json = {
    "id": "bbbbbbbb-0000-4000-8000-00000000000b",
    "created": "2026-11-20T20:36:04.123456Z",
    "updated": "2026-11-20T20:36:04.123456Z",
    "name": "sly-fox",
    "flow_id": FLOW["id"],
    "deployment_id": "dddddddd-0000-4000-8000-00000000000d",
    "deployment_version": None,
    "work_queue_name": "default",
    "parameters": {"day": "monday", "deep": {"list": [1, {"x": 2}]}},
    "tags": ["a", "b"],
    "labels": {"prefect.flow.id": FLOW["id"]},
    "run_count": 0,
    "total_run_time": 0.0,
    "expected_start_time": "2026-11-20T20:36:04.123456Z",
    "auto_scheduled": False,
    "infrastructure_pid": None,
    "state_type": "SCHEDULED",
    "state_name": "Late",
}
BLOCK_ID = "12345678-1234-4123-8123-1234567890ab"
REFERENCES: Json = {
    "prefect.blocks.secret.token": {"value": "s3cr3t"},
    "prefect.blocks.json.settings": {"value": {"a": {"b": [10, 20]}, "value": 1, "values": [5], "0": "zero"}},
    "prefect.blocks.aws.keys": {"key": "k", "region": "eu", "deep": {"list": [{"n": 1}]}, "value": "v"},
    "prefect.blocks.secret.naming": {"value": "{{ prefect.variables.region }}-{{ prefect.blocks.secret.token }}"},
    "prefect.blocks.secret.nothing": {"value": None},
    "prefect.blocks.secret.empty": {},
    f"block_document_id:{BLOCK_ID}": {"value": "by id", "more": "{{ prefect.variables.region }}"},
    "prefect.variables.region": "eu-west-1",
    "prefect.variables.number": 7,
    "prefect.variables.object": {"a": [1, "{{ prefect.variables.region }}"]},
    "prefect.variables.null": None,
}

REFUSED_HERE = {
    "environment": "a template cannot read the agent's environment",
    "credentials": "aws_credentials and cluster_config are the agent's own business",
    "odd schema": "what describes a variable is an object; Prefect takes a text without the word 'default' for one too",
}
REFUSED_THERE = {
    "odd reference": "a $ref that is no object is data like any other, where Prefect fails the run",
}
OTHER_NAMES = {
    "flow": "of the flow, a name can have the id and the name; other fields are empty",
    "own env": "the run's job variables keep their `env`, which Prefect takes away while it merges them",
    "name type": "a name is text, also when its placeholder stands for a list",
}


@dataclass(frozen=True)
class Case:
    """One flow run of one work pool.

    `configuration` and `properties` make the pool's template, unless `template` is given. `general` and `own` are the
    job variables of the deployment (None for a run without one) and of the run. `difference` names an entry of the
    tables above, or is empty where both must do the same.
    """

    title: str
    configuration: Any = field(default_factory=dict)
    properties: Any = field(default_factory=dict)
    general: Any = field(default_factory=dict)
    own: Any = field(default_factory=dict)
    references: Json = field(default_factory=lambda: REFERENCES)
    pool_type: str = "ecs"
    template: Any = None
    difference: str = ""

    def pool(self) -> Json:
        made = {"job_configuration": self.configuration, "variables": {"properties": self.properties}}
        return {
            "id": "cccccccc-0000-4000-8000-00000000000c",
            "name": "pool",
            "type": self.pool_type,
            "base_job_template": made if self.template is None else self.template,
        }

    def flow_run(self) -> Json:
        deployment_id = FLOW_RUN["deployment_id"] if self.deployment() else None
        return {**FLOW_RUN, "deployment_id": deployment_id, "job_variables": self.own}

    def deployment(self) -> Json:
        if self.general is None:
            return {}
        return {"id": FLOW_RUN["deployment_id"], "name": "nightly", "job_variables": self.general}


def _default(**values: Any) -> Json:
    return {name: {"default": value} for name, value in values.items()}


X = {"x": "{{ x }}"}
ENV = {"env": "{{ env }}"}
OWN_ENV = {"env": {"BASE": "1", "LEFT": "{{ x }}", "GONE": "{{ nope }}"}}
NAME = {"name": "{{ name }}"}

ALIKE = [
    Case("nothing at all"),
    Case("plain values", {"a": 1, "b": None, "c": True, "d": 1.5, "e": "text", "f": [None, 2], "g": {"h": {}}}),
    Case("a default", X, _default(x=3)),
    Case("a default that is null is none", X, {"x": {"default": None, "type": "string"}}),
    Case("a default that is false", X, _default(x=False)),
    Case("no default", X, {"x": {"type": "string"}}),
    Case("no properties", X, template={"job_configuration": X, "variables": {}}),
    Case("a deployment's value wins over a default", X, _default(x=3), {"x": 4}),
    Case("a run's value wins over the deployment's", X, _default(x=3), {"x": 4}, {"x": 5}),
    Case("no deployment", X, _default(x=3), None, {"x": 5}),
    Case("a run without job variables", X, _default(x=3), {"x": 4}, None),
    Case("an explicit null", X, _default(x=3), {"x": None}),
    Case("an explicit null inside a text", {"x": "a{{ x }}b"}, _default(x=3), {"x": None}),
    Case("values inside of texts", {"x": "{{x}}-{{ y }}-{{  x  }}"}, _default(x=1, y=[True, {"z": None}])),
    Case("missing inside of a text", {"x": "a{{ nope }}b", "y": "{{ nope }}{{ nope }}"}),
    Case("missing in an object and a list", {"x": {"a": "{{ nope }}", "b": 1}, "y": ["{{ nope }}", 1, ["{{ nope }}"]]}),
    Case("twice in one text", {"x": "{{ x }}{{ x }}"}, _default(x=[1])),
    Case("space around a whole placeholder", {"x": " {{ x }}", "y": "{{ x }}\n", "z": "{{\n x\t}}"}, _default(x=[1])),
    Case(
        "no placeholders",
        {"x": "{{ a b }}", "y": "{ x }", "z": "{{}}", "w": "{{ x|y }}", "v": "{{{ x }}}"},
        _default(x=1),
    ),
    Case("placeholders in names of entries", {"{{ x }}": 1, "y{{ x }}": "{{ x }}"}, _default(x="a")),
    Case("a value that looks like a placeholder", {"x": "{{ x }}", "y": "-{{ x }}"}, _default(x="{{ y }}", y=1)),
    Case("a path", {"x": "{{ d.x.y }}", "y": "{{ d.nope.y }}", "z": "{{ d.x.y.z }}"}, _default(d={"x": {"y": 1}})),
    Case(
        "indexes",
        {
            "a": "{{ l[0] }}",
            "b": "{{ l.1.n }}",
            "c": "{{ l[-1] }}",
            "d": "{{ l[9] }}",
            "e": "{{ l[x] }}",
            "f": "{{ s[1] }}",
        },
        _default(l=[5, {"n": 6}], s="text"),
    ),
    Case("a number is no name", {"x": "{{ d.0 }}", "y": "{{ d[0] }}"}, _default(d={"0": 1})),
    Case(
        "odd indexes",
        {"x": "{{ l.1_0 }}", "y": "{{ l[] }}", "z": "{{ . }}", "w": "{{ - }}"},
        _default(l=list(range(20))),
    ),
    Case("an object is replaced as a whole", {"d": "{{ d }}"}, _default(d={"a": 1, "b": 2}), {"d": {"a": 3}}),
    Case("a dotted name", {"d": "{{ d }}"}, _default(d={"a": 1, "b": 2}), {"d.a": 3}),
    Case("dotted names of two levels", {"d": "{{ d }}"}, {}, {"d.a.b": 1, "d.a.c": 2, "d.e": 3}),
    Case("a dotted name beside an object", {"d": "{{ d }}"}, {}, {"d.a.b": 1, "d": {"a": {"c": 2}, "e": 3}}),
    Case("an object wins over a dotted name", {"d": "{{ d }}"}, {}, {"d": {"a": 2}, "d.a": 1}),
    Case("a plain value wins over dotted names", {"d": "{{ d }}"}, {}, {"d.a": 1, "d": 5}),
    Case("a dotted name in an index", {"d": "{{ d }}"}, {}, {"d.l[0]": 1}),
    Case("an index without a dot is a plain name", {"d": "{{ d }}"}, {}, {"d[0]": 1}),
    Case("a dotted name below an object of another", {"d": "{{ d }}"}, {}, {"d.a": {"x": 1}, "d.a.y": 2}),
    Case("a dotted name below a number", {"d": "{{ d }}"}, {}, {"d.a": 1, "d.a.b": 2}),
    Case("a dot alone", {"d": "{{ d }}"}, {}, {".": 1}),
    Case("a dotted name of the run", {"d": "{{ d }}"}, {}, {"d": {"a": 1}}, {"d.b": 2}),
    Case("env as a placeholder", ENV, {}, {"env": {"A": "1", "B": "2"}}, {"env": {"B": "3", "C": "4"}}),
    Case("env of a run alone", ENV, {}, {}, {"env": {"B": "3"}}),
    Case("env with a default", ENV, _default(env={"D": "0", "A": "0"}), {"env": {"A": "1"}}),
    Case("env with a default and nothing else", ENV, _default(env={"D": "0"})),
    Case("env with an empty default", ENV, _default(env={}), {"env": {"A": "1"}}),
    Case("env of the template", OWN_ENV, _default(x="X"), {"env": {"A": "1"}}, {"env": {"BASE": "2"}}),
    Case("env of the template and a default", OWN_ENV, _default(env={"D": "0", "BASE": "d"}), {"env": {"A": "1"}}),
    Case("env of the template without others", OWN_ENV),
    Case("no env in the template but a default", {}, _default(env={"D": "0"}), {"env": {"A": "1"}}),
    Case("no env in the template and no default", {}, {}, {"env": {"A": "1"}}),
    Case("env of dotted names", ENV, _default(env={"D": "0"}), {"env.A": "1"}, {"env": {"B": "2"}}),
    Case("env of dotted names for an env of the template", OWN_ENV, {}, {"env.A": "1"}, {"env.B": "2"}),
    Case(
        "env values of other types",
        ENV,
        {},
        {"env": {"A": 1, "B": True, "C": None, "D": [1], "E": {"x": "y"}, "F": 1.5}},
    ),
    Case(
        "env values are templates once a default made them so",
        ENV,
        _default(env={"D": "0"}, x=9),
        {"env": {"A": "{{ x }}"}},
    ),
    Case("env values are no templates else", ENV, _default(x=9), {"env": {"A": "{{ x }}", "B": "{{ $HOME }}"}}),
    Case("env null", ENV, {}, {"env": None}),
    Case("env a list", ENV, {}, {"env": ["A"]}),
    Case("env a list beside one of the template", OWN_ENV, {}, {"env": ["A"]}),
    Case("env a text in a default beside one of the template", OWN_ENV, _default(env="A")),
    Case("env null in a run beside the deployment's", ENV, {}, {"env": {"A": "1"}}, {"env": None}),
    Case("env a list on Kubernetes", ENV, {}, {"env": [{"name": "A", "valueFrom": {"x": 1}}]}, pool_type="kubernetes"),
    Case(
        "a default env list on Kubernetes",
        ENV,
        _default(env=[{"name": "A", "value": "{{ x }}"}], x=1),
        pool_type="kubernetes",
    ),
    Case(
        "env in two places",
        {"env": "{{ env }}", "c": {"environment": "{{ env }}"}},
        _default(env={"D": 0}),
        {"env": {"A": 1}},
    ),
    Case("command and labels", {"command": "{{ c }}", "labels": "{{ l }}"}, {}, {"c": "run it", "l": {"a": "b"}}),
    Case("an empty command", {"command": ""}),
    Case("a command that is a number", {"command": 5}),
    Case("a command that is 0", {"command": 0}),
    Case("a command that is a list", {"command": ["a"]}),
    Case("a name that is a number", {"name": 5}),
    Case("labels that are numbers", {"labels": {"a": 1}}),
    Case("labels that are null", {"labels": None}),
    Case("labels that are a list", {"labels": []}),
    Case("a name", NAME, {}, {"name": "mine"}),
    Case("a null name", NAME, {}, {"name": None}),
    Case("an empty name", NAME, {}, {"name": ""}),
    Case(
        "a name of the flow and the run",
        NAME,
        {},
        {"name": "{{ ctx.flow.name }}-{{ ctx.flow.id }}-{{ ctx.flow_run.name }}"},
    ),
    Case(
        "a name with everything",
        NAME,
        {},
        {"name": "{{ ctx.flow_run.parameters.deep.list[1].x }} {{ ctx.flow_run.tags[0] }}"},
    ),
    Case(
        "a name of times",
        NAME,
        {},
        {"name": "{{ ctx.flow_run.created }}|{{ ctx.flow_run.state_name }}|{{ ctx.flow_run.run_count }}"},
    ),
    Case("a name of a duration", NAME, {}, {"name": "a{{ ctx.flow_run.total_run_time }}"}),
    Case("a name of a null", NAME, {}, {"name": "{{ ctx.flow_run.deployment_version }}"}),
    Case("a name of a null inside a text", NAME, {}, {"name": "a{{ ctx.flow_run.deployment_version }}"}),
    Case("a name of nothing", NAME, {}, {"name": "{{ ctx.flow_run.nope }}"}),
    Case("a name of nothing inside a text", NAME, {}, {"name": "a-{{ ctx.flow_run.nope }}"}),
    Case("a name that is another variable", NAME, _default(x="X"), {"name": "{{ x }}-"}),
    Case("a context in the template itself", {"name": "a-{{ ctx.flow.name }}", "x": "{{ ctx.flow.name }}"}),
    Case("a context elsewhere", {"x": "{{ x }}"}, {}, {"x": "{{ ctx.flow.name }}"}),
    Case(
        "a name with a block and a variable",
        NAME,
        {},
        {"name": "{{ prefect.variables.region }}-{{ prefect.blocks.secret.token }}-{{ ctx.flow.id }}"},
    ),
    Case(
        "a name whose block names a context",
        NAME,
        {},
        {"name": "{{ prefect.blocks.secret.ctx }}"},
        references={"prefect.blocks.secret.ctx": {"value": "{{ ctx.flow.name }}"}},
    ),
    Case("a block unwrapped", {"x": "{{ prefect.blocks.secret.token }}"}),
    Case("a block unwrapped inside of a text", {"x": "Bearer {{ prefect.blocks.secret.token }}!"}),
    Case(
        "a block's value by name",
        {"x": "{{ prefect.blocks.secret.token.value }}", "y": "{{ prefect.blocks.json.settings.value.a.b[1] }}"},
    ),
    Case(
        "a block's path past its value",
        {"x": "{{ prefect.blocks.json.settings.a.b[0] }}", "y": "-{{ prefect.blocks.json.settings.a.b.1 }}"},
    ),
    Case(
        "a block whose value has a value",
        {"x": "{{ prefect.blocks.json.settings.value.value }}", "y": "{{ prefect.blocks.json.settings.values }}"},
    ),
    Case("a block's value of value by an index", {"x": "{{ prefect.blocks.secret.token.value[0] }}"}),
    Case("a block whole", {"x": "{{ prefect.blocks.aws.keys }}", "y": "{{ prefect.blocks.aws.keys.deep.list[0].n }}"}),
    Case("a block with more than a value", {"x": "{{ prefect.blocks.aws.keys.value }}"}),
    Case("a block of null", {"x": "{{ prefect.blocks.secret.nothing }}", "y": "-{{ prefect.blocks.secret.nothing }}"}),
    Case("a block of nothing", {"x": "{{ prefect.blocks.secret.empty }}"}),
    Case(
        "a block that names a variable and a block",
        {"x": "{{ prefect.blocks.secret.naming }}", "y": "a{{ prefect.blocks.secret.naming }}"},
    ),
    Case("an object inside of a text", {"x": "a{{ prefect.blocks.json.settings }}"}),
    Case("a list inside of a text", {"x": "a{{ prefect.blocks.json.settings.a.b }}"}),
    Case("the same block twice", {"x": "{{ prefect.blocks.secret.token }}{{ prefect.blocks.secret.token }}"}),
    Case("a number of a block which is no name", {"x": "{{ prefect.blocks.json.settings.0 }}"}),
    Case("a block without the path", {"x": "{{ prefect.blocks.json.settings.nope }}"}),
    Case("a missing block", {"x": "{{ prefect.blocks.secret.nope }}"}),
    Case("a block of half a name", {"x": "{{ prefect.blocks.secret }}"}),
    Case("a block of no name", {"x": "{{ prefect.blocks. }}"}),
    Case("a block with an index in its name", {"x": "{{ prefect.blocks.secret.token[0] }}"}),
    Case("a block in a job variable", X, {}, {"x": {"deep": ["{{ prefect.blocks.secret.token }}"]}}),
    Case(
        "a block in env",
        ENV,
        {},
        {"env": {"A": "{{ prefect.blocks.secret.token }}", "B": "{{ prefect.blocks.json.settings }}"}},
    ),
    Case(
        "a block beside a variable of the template",
        {"x": "{{ x }}:{{ prefect.blocks.secret.token }}"},
        _default(x="user"),
    ),
    Case("a block whose name is put together", {"x": "{{ prefect.blocks.secret.{{ x }} }}"}, _default(x="token")),
    Case("a $ref", {"x": {"$ref": {"block_document_id": BLOCK_ID}}}),
    Case("a $ref in a default", X, _default(x={"$ref": {"block_document_id": BLOCK_ID}})),
    Case("a $ref of dotted names", X, {}, {"x.$ref.block_document_id": BLOCK_ID}),
    Case(
        "a $ref with an id from a variable",
        {"x": {"$ref": {"block_document_id": "{{ x }}"}, "y": 1}},
        _default(x=BLOCK_ID),
    ),
    Case("a $ref without an id", {"x": {"$ref": {"other": "{{ prefect.variables.region }}"}}, "y": {"$ref": {}}}),
    Case("a $ref to no block", {"x": {"$ref": {"block_document_id": BLOCK_ID.replace("1", "2")}}}),
    Case("a $ref to no id", {"x": {"$ref": {"block_document_id": "keys"}}}),
    Case(
        "a variable",
        {
            "x": "{{ prefect.variables.region }}",
            "y": "{{ prefect.variables.number }}",
            "z": "{{ prefect.variables.object }}",
        },
    ),
    Case(
        "a variable inside of a text",
        {"x": "a{{ prefect.variables.number }}{{ prefect.variables.object }}"},
    ),
    Case(
        "a missing variable",
        {
            "x": "{{ prefect.variables.nope }}",
            "y": "a{{ prefect.variables.nope }}",
            "z": ["{{ prefect.variables.nope }}"],
        },
    ),
    Case("a null variable", {"x": "{{ prefect.variables.null }}", "y": "a{{ prefect.variables.null }}"}),
    Case(
        "a variable of no name",
        {
            "x": "{{ prefect.variables. }}",
            "y": "{{ prefect.variables.region.x }}",
            "z": "{{ prefect.variables.region[0] }}",
        },
    ),
    Case("a variable in a job variable", X, {}, {"x": "{{ prefect.variables.number }}"}),
    Case(
        "a variable in env",
        ENV,
        {},
        {"env": {"A": "{{ prefect.variables.number }}", "B": "{{ prefect.variables.nope }}"}},
    ),
    Case("a variable beside a missing placeholder", {"x": "{{ prefect.variables.region }}{{ nope }}"}),
    Case(
        "a placeholder that begins alike",
        {"x": "{{ prefect }}", "y": "{{ prefect.block.x.y }}", "z": "{{ prefect.variable.x }}"},
        _default(prefect={"block": 1}),
    ),
    Case("aws_credentials left empty", {"aws_credentials": "{{ aws_credentials }}"}, {}, {"aws_credentials": {}}),
    Case("cluster_config null", {"cluster_config": "{{ cluster_config }}"}, {}, {"cluster_config": None}),
    Case("a template that is nothing", template={}),
    Case("a template that is null", template={"job_configuration": None, "variables": {}}),
    Case("a template that is a list", template=[]),
    Case("a template without variables", template={"job_configuration": {}}),
    Case("a template whose variables are a list", template={"job_configuration": {}, "variables": []}),
    Case("a template whose properties are a list", {}, [1]),
    Case("a template whose properties are null", {}, None),
    Case("a property that is true", {}, {"x": True}),
    Case("a job configuration that is text", "{{ x }}", _default(x={"a": 1})),
]

DIFFERENT = [
    Case("the environment", {"x": "{{ $HOME }}"}, difference="environment"),
    Case("the environment inside of a text", {"x": "{{ x }}{{ $HOME }}"}, difference="environment"),
    Case("the environment in a name", NAME, {}, {"name": "{{ $HOME }}"}, difference="environment"),
    Case("keys", {"aws_credentials": "{{ c }}"}, {}, {"c": {"aws_access_key_id": "a"}}, difference="credentials"),
    Case(
        "a block of keys",
        {"aws_credentials": {"$ref": {"block_document_id": BLOCK_ID}}},
        difference="credentials",
    ),
    Case("a cluster", {"cluster_config": "{{ prefect.blocks.aws.keys }}"}, difference="credentials"),
    Case("a property that is text", {}, {"x": "string"}, difference="odd schema"),
    Case("a $ref that is text", {"x": {"$ref": "#/a"}}, difference="odd reference"),
    Case("the tags of the flow", NAME, {}, {"name": "a{{ ctx.flow.tags }}"}, difference="flow"),
    Case("when the flow was made", NAME, {}, {"name": "a{{ ctx.flow.created }}"}, difference="flow"),
    Case(
        "a run's own env",
        NAME,
        {},
        {"name": "a{{ ctx.flow_run.job_variables.env.A }}", "env": {}},
        {"env": {"A": "1"}},
        difference="own env",
    ),
    Case("a list for a name", NAME, {}, {"name": "{{ ctx.flow_run.tags }}"}, difference="name type"),
]


def generated_cases(count: int, seed: int = 3) -> list[Case]:
    """Cases out of a few names and values, which meet often; nothing in them is of a listed difference."""
    dice = random.Random(seed)
    return [_generated(dice, number) for number in range(count)]


# What is put in names nothing that a text could have beside it: that would be searched again by chance.
GENERATED_REFERENCES: Json = {
    **REFERENCES,
    "prefect.blocks.secret.naming": {"value": "{{ prefect.variables.region }}-{{ prefect.blocks.never.used }}"},
    "prefect.variables.object": {"a": [1, "{{ prefect.variables.never }}"]},
}
NAMES = ("a", "b", "c", "env")
PATHS = ("a", "b", "c", "env", "nope", "a.x", "b.y.x", "c[0]", "c.1.x", "env.A", "a[x]", "b.0", "c[-1].y")
STORED = (*(name for name in REFERENCES if "block_document" not in name), "prefect.blocks.json.settings.a.b[0]")
VALUES: tuple[Any, ...] = (0, 1, 2.5, True, False, None, "", "text", "é", "{{ never }}")


def _generated(dice: random.Random, number: int) -> Case:
    configuration = {
        name: _template(dice, 3) for name in dice.sample(["p", "q", "r", "env", "x.y"], dice.randint(1, 5))
    }
    configuration["env"] = dice.choice(["{{ env }}", "{{ env }}", {"T": _text(dice)}, {"A": "{{ b.y.x }}"}, {}])
    if dice.random() < 0.3:
        configuration["name"] = dice.choice(["{{ a }}", "n-{{ b }}", _text(dice), "{{ ctx.flow.name }}"])
    properties = {name: {"type": "x"} for name in NAMES} | {
        name: {"default": _env(dice) if name == "env" else _value(dice, 2)} for name in dice.sample(NAMES, 2)
    }
    properties["only"] = {"default": _value(dice, 1)}
    general, own = (dict(_variables(dice)) for _ in range(2))
    kind = dice.choice(["ecs", "kubernetes", "process"])
    return Case(f"generated {number}", configuration, properties, general, own, GENERATED_REFERENCES, pool_type=kind)


def _variables(dice: random.Random) -> Iterator[tuple[str, Any]]:
    for name in dice.sample([*NAMES, "a.x", "a.x.y", "b.y.x", "c.0", "env.A", "env.B"], dice.randint(0, 5)):
        yield name, _env(dice) if name == "env" else _value(dice, 2)


def _env(dice: random.Random) -> Any:
    if dice.random() < 0.04:
        return dice.choice([None, ["a"], "text"])
    values = ["1", 2, None, "{{ only }}", f"-{{{{ only }}}}{{{{ {dice.choice(STORED)} }}}}"]
    return {name: dice.choice(values) for name in dice.sample("ABCD", dice.randint(0, 3))}


def _value(dice: random.Random, depth: int) -> Any:
    """A value for a variable: it names blocks and Prefect variables, and no variable of the template."""
    form = dice.random() if depth else 1
    if form < 0.3:
        return {name: _value(dice, depth - 1) for name in dice.sample("xyz", 2)}
    if form < 0.5:
        return [_value(dice, depth - 1) for _ in range(dice.randint(0, 3))]
    if form < 0.6:
        return f"{{{{ {dice.choice(STORED)} }}}}"
    return dice.choice(VALUES)


def _template(dice: random.Random, depth: int) -> Any:
    form = dice.random() if depth else 1
    if form < 0.2:
        return {name: _template(dice, depth - 1) for name in dice.sample(["x", "y", "{{ a }}", "$ref "], 2)}
    if form < 0.4:
        return [_template(dice, depth - 1) for _ in range(dice.randint(0, 3))]
    if form < 0.42:
        return {"$ref": {"block_document_id": BLOCK_ID}}
    return dice.choice(VALUES) if form < 0.5 else _text(dice)


def _text(dice: random.Random) -> str:
    """One to three placeholders with or without something around; seldom one that cannot stand there."""
    names = [dice.choice(PATHS if dice.random() < 0.7 else _scalars(dice)) for _ in range(dice.choice([1, 1, 1, 2, 3]))]
    return dice.choice(["", "", "", "-"]) + dice.choice(["", " "]).join(f"{{{{ {name} }}}}" for name in names)


def _scalars(dice: random.Random) -> tuple[str, ...]:
    return (
        STORED if dice.random() < 0.1 else tuple(name for name in STORED if name.endswith(("token", "b[0]", "region")))
    )
