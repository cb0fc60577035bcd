"""The tables of Prefect Server as its gateway shows them: columns, relations, and the GraphQL schema they make.

Column types are PostgreSQL's names, which is how they appear in the schema: `uuid`, `timestamptz` and `jsonb` beside
GraphQL's own. They are a family of their own; the mutations speak of `UUID`, `DateTime` and `JSON`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

OPERATORS: Mapping[str, tuple[str, ...]] = {
    "uuid": ("_eq", "_neq", "_gt", "_gte", "_lt", "_lte"),
    "timestamptz": ("_eq", "_neq", "_gt", "_gte", "_lt", "_lte"),
    "Int": ("_eq", "_neq", "_gt", "_gte", "_lt", "_lte"),
    "String": ("_eq", "_neq", "_gt", "_gte", "_lt", "_lte", "_like", "_nlike", "_ilike", "_nilike"),
    "Boolean": ("_eq", "_neq"),
    "jsonb": ("_eq", "_neq", "_contains", "_contained_in"),
}
"""Which operators take one value of the column's own type."""

STATE_COLUMNS = """version:Int! state:String state_timestamp:timestamptz state_message:String
    state_start_time:timestamptz serialized_state:jsonb start_time:timestamptz end_time:timestamptz
    heartbeat:timestamptz name:String"""
HISTORY_COLUMNS = """version:Int state:String! timestamp:timestamptz! message:String start_time:timestamptz
    serialized_state:jsonb!"""


@dataclass(frozen=True)
class Table:
    """One table: `columns` by name to GraphQL type, `one` and `many` by relation to (table, foreign key)."""

    columns: Mapping[str, str]
    one: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    many: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def type_of(self, column: str) -> str:
        """The type of a column, without the mark of what may not be null."""
        return self.columns[column].rstrip("!")


def _table(columns: str, one: str = "", many: str = "") -> Table:
    every = "id:uuid! tenant_id:uuid created:timestamptz! updated:timestamptz! "
    return Table(_pairs(every + columns), _relations(one), _relations(many))


def _pairs(text: str) -> dict[str, str]:
    return {name: value for name, _, value in (word.partition(":") for word in text.split())}


def _relations(text: str) -> dict[str, tuple[str, str]]:
    relations = {}
    for name, target in _pairs(text).items():
        table, foreign_key = target.split(".")
        relations[name] = (table, foreign_key)
    return relations


TABLES: Mapping[str, Table] = {
    "tenant": _table("name:String! slug:String! settings:jsonb!", many="projects:project.tenant_id"),
    "project": _table("name:String! description:String", many="flows:flow.project_id"),
    "agent_config": _table("name:String settings:jsonb!"),
    "agent": _table(
        """agent_config_id:uuid name:String type:String labels:jsonb! core_version:String last_queried:timestamptz""",
        one="agent_config:agent_config.agent_config_id",
    ),
    "flow_group": _table(
        "name:String labels:jsonb settings:jsonb! default_parameters:jsonb! run_config:jsonb schedule:jsonb",
        many="flows:flow.flow_group_id",
    ),
    "flow": _table(
        """name:String! version:Int description:String environment:jsonb run_config:jsonb parameters:jsonb storage:jsonb
        project_id:uuid! archived:Boolean! version_group_id:String core_version:String settings:jsonb! schedule:jsonb
        serialized_flow:jsonb is_schedule_active:Boolean! flow_group_id:uuid!""",
        one="project:project.project_id flow_group:flow_group.flow_group_id tenant:tenant.tenant_id",
        many="flow_runs:flow_run.flow_id tasks:task.flow_id",
    ),
    "task": _table(
        """flow_id:uuid! name:String slug:String type:String cache_key:String tags:jsonb! mapped:Boolean!
        auto_generated:Boolean! max_retries:Int""",
        one="flow:flow.flow_id",
        many="task_runs:task_run.task_id",
    ),
    "flow_run": _table(
        f"""{STATE_COLUMNS} flow_id:uuid! agent_id:uuid parameters:jsonb context:jsonb run_config:jsonb labels:jsonb!
        scheduled_start_time:timestamptz! auto_scheduled:Boolean! idempotency_key:String times_resurrected:Int""",
        one="flow:flow.flow_id agent:agent.agent_id tenant:tenant.tenant_id",
        many="task_runs:task_run.flow_run_id states:flow_run_state.flow_run_id logs:log.flow_run_id",
    ),
    "task_run": _table(
        f"{STATE_COLUMNS} flow_run_id:uuid! task_id:uuid! map_index:Int! cache_key:String",
        one="flow_run:flow_run.flow_run_id task:task.task_id",
        many="states:task_run_state.task_run_id logs:log.task_run_id",
    ),
    "flow_run_state": _table(f"{HISTORY_COLUMNS} flow_run_id:uuid!", one="flow_run:flow_run.flow_run_id"),
    "task_run_state": _table(f"{HISTORY_COLUMNS} task_run_id:uuid!", one="task_run:task_run.task_run_id"),
    "log": _table(
        """flow_run_id:uuid task_run_id:uuid timestamp:timestamptz! name:String level:String message:String
        info:jsonb"""
    ),
}

FOREIGN_KEYS: Mapping[str, tuple[tuple[str, str], ...]] = {
    name: tuple(
        (foreign_key, target)
        for target in TABLES
        for foreign_key in (f"{target}_id",)
        if foreign_key in table.columns and not (name == "flow_run" and target == "agent")
    )
    for name, table in TABLES.items()
}
"""For each table the columns that own it, with the table they point at: deleting the owner deletes the row."""


def tables_sdl() -> str:
    """The part of the schema that the tables make."""
    blocks = [
        "scalar uuid scalar timestamptz scalar jsonb",
        "enum order_by { asc desc asc_nulls_first desc_nulls_last }",
    ]
    blocks += [_comparison_sdl(kind, operators) for kind, operators in OPERATORS.items()]
    blocks += [_table_sdl(name, table) for name, table in TABLES.items()]
    blocks += [f"extend type Query {{ {name}{_arguments(name)}: [{name}!]! }}" for name in TABLES]
    blocks += [f"extend type Query {{ {name}_by_pk(id: uuid!): {name} }}" for name in TABLES]
    return "\n".join(blocks)


def _comparison_sdl(kind: str, operators: tuple[str, ...]) -> str:
    fields = [f"{operator}: {kind}" for operator in operators]
    fields += ["_is_null: Boolean", f"_in: [{kind}!]", f"_nin: [{kind}!]"]
    if kind == "jsonb":
        fields += ["_has_key: String", "_has_keys_any: [String!]", "_has_keys_all: [String!]"]
    return f"input {kind}_comparison_exp {{ {' '.join(fields)} }}"


def _table_sdl(name: str, table: Table) -> str:
    fields = [f"{column}: {kind}" for column, kind in table.columns.items()]
    fields += [f"{relation}: {target}" for relation, (target, _) in table.one.items()]
    fields += [f"{relation}{_arguments(target)}: [{target}!]!" for relation, (target, _) in table.many.items()]
    filters = [f"{word}: [{name}_bool_exp!]" for word in ("_and", "_or")] + [f"_not: {name}_bool_exp"]
    filters += [f"{column}: {table.type_of(column)}_comparison_exp" for column in table.columns]
    filters += [f"{relation}: {target}_bool_exp" for relation, (target, _) in {**table.one, **table.many}.items()]
    orders = [f"{column}: order_by" for column in table.columns]
    return "\n".join(
        (
            f"type {name} {{ {' '.join(fields)} }}",
            f"input {name}_bool_exp {{ {' '.join(filters)} }}",
            f"input {name}_order_by {{ {' '.join(orders)} }}",
        )
    )


def _arguments(name: str) -> str:
    return f"(where: {name}_bool_exp, order_by: [{name}_order_by!], limit: Int, offset: Int)"
