"""The executable schema: scalars, resolvers and the gateway's depth limit."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from graphql import (
    ASTValidationRule,
    FieldNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    OperationDefinitionNode,
    SelectionNode,
    build_schema,
)

from tests.doubles.prefect1.backend import Call
from tests.doubles.prefect1.filters import compile_filter, named_ids, ordered, related_rows
from tests.doubles.prefect1.mutations import MUTATIONS, Mutation
from tests.doubles.prefect1.scalars import bind_scalars, usable
from tests.doubles.prefect1.states import CORE_VERSION
from tests.doubles.prefect1.store import Row, parse_time
from tests.doubles.prefect1.tables import TABLES, tables_sdl

DEPTH_LIMIT = 7
"""How deep a field may stand; a root field stands at 0."""
SERVER_VERSION = "2022.04.14"
CLOUD_SDL = "extend type Query { auth_info: auth_info_payload } type auth_info_payload { tenant_id: UUID }"


@lru_cache
def schema(cloud: bool) -> GraphQLSchema:
    """The schema of Server, or of Cloud; it is the same for every instance, which resolvers find in the context."""
    service = (Path(__file__).parent / "service.graphql").read_text(encoding="utf-8")
    built = build_schema("\n".join((service, tables_sdl(), CLOUD_SDL if cloud else "")))
    bind_scalars(built)
    for name, mutation in MUTATIONS.items():
        _fields(built, "Mutation")[name].resolve = _mutation_resolver(mutation)
    for table in TABLES:
        _bind_table(built, table)
    query = _fields(built, "Query")
    query["hello"].resolve = lambda source, info: "👋"
    query["api"].resolve = _api
    query["get_task_run_info"].resolve = _get_task_run_info
    if cloud:
        query["auth_info"].resolve = _auth_info
    return built


def _fields(built: GraphQLSchema, name: str) -> dict[str, GraphQLField]:
    kind = built.type_map[name]
    assert isinstance(kind, GraphQLObjectType)
    fields: dict[str, GraphQLField] = kind.fields
    return fields


def _bind_table(built: GraphQLSchema, table: str) -> None:
    _fields(built, "Query")[table].resolve = lambda source, info, **arguments: _answer(info.context, table, **arguments)
    _fields(built, "Query")[f"{table}_by_pk"].resolve = _by_pk_resolver(table)
    for relation, (target, _) in {**TABLES[table].one, **TABLES[table].many}.items():
        _fields(built, table)[relation].resolve = _relation_resolver(table, relation, target)


def _relation_resolver(table: str, relation: str, target: str) -> Any:
    def resolve(source: Row, info: GraphQLResolveInfo[Call], **arguments: Any) -> Any:
        rows = related_rows(info.context.store, table, relation, source)
        if relation in TABLES[table].one:
            return rows[0] if rows else None
        return _select(info.context, target, rows, **arguments)

    return resolve


def _answer(call: Call, table: str, where: Mapping[str, Any] | None = None, **more: Any) -> list[Row]:
    """The rows of a table query; what asks as the queue does is answered from its index."""
    tenant_id = _tenant_of_queue(where or {}, more) if table == "flow_run" else None
    if tenant_id is None:
        return _select(call, table, _visible_rows(call, table, where), where, **more)
    condition = compile_filter(call.store, table, where)
    latest = ((where or {}).get("state_start_time") or {}).get("_lte")
    before = parse_time(latest) if latest else None
    return call.backend.waiting.first(tenant_id, more["limit"], before, lambda run: condition(run) is True)


def _tenant_of_queue(where: Mapping[str, Any], more: Mapping[str, Any]) -> str | None:
    """The tenant whose first Scheduled runs by start time are wanted, None when anything else is."""
    in_order = more.get("order_by") == [{"state_start_time": "asc"}] and more.keys() == {"order_by", "limit"}
    if not in_order or where.get("state") != {"_eq": "Scheduled"}:
        return None
    tenant_id = (where.get("tenant_id") or {}).get("_eq")
    return str(tenant_id) if tenant_id else None


def _select(
    call: Call,
    table: str,
    rows: list[Row],
    where: Mapping[str, Any] | None = None,
    order_by: list[Mapping[str, str]] | None = None,
    limit: int | None = None,
    offset: int | None = None,
) -> list[Row]:
    condition = compile_filter(call.store, table, where)
    found = ordered(call.store.shuffled(row for row in rows if condition(row) is True), order_by)
    start = offset or 0
    return found[start:] if limit is None else found[start : start + limit]


def _visible_rows(call: Call, table: str, where: Mapping[str, Any] | None) -> list[Row]:
    """The rows among which a query looks: those of the ids that it names, if it does."""
    ids = named_ids(where)
    if table == "tenant" and call.backend.cloud:
        ids = [call.backend.tenant_of(call.credential)]
    if ids is None:
        return call.store.rows(table)
    return [row for row in (call.store.get(table, row_id) for row_id in ids) if row]


def _by_pk_resolver(table: str) -> Any:
    def resolve(source: Any, info: GraphQLResolveInfo[Call], id: Any) -> Row | None:  # noqa: A002
        where = {"id": {"_eq": id}}
        return next(iter(_select(info.context, table, _visible_rows(info.context, table, where), where)), None)

    return resolve


def _api(source: Any, info: GraphQLResolveInfo[Call]) -> dict[str, str]:
    backend = "CLOUD" if info.context.backend.cloud else "SERVER"
    return {"backend": backend, "mode": "normal", "version": SERVER_VERSION, "core_version": CORE_VERSION}


def _get_task_run_info(source: Any, info: GraphQLResolveInfo[Call], task_run_id: Any) -> Row:
    found: Row = info.context.existing("task_run", usable(task_run_id), "Invalid task run ID")
    return found


def _auth_info(source: Any, info: GraphQLResolveInfo[Call]) -> dict[str, str | None]:
    call: Call = info.context
    return {"tenant_id": call.backend.api_keys.get(call.credential)}


def _mutation_resolver(mutation: Mutation) -> Any:
    def resolve(source: Any, info: GraphQLResolveInfo[Call], input: Mapping[str, Any]) -> dict[str, Any]:  # noqa: A002
        call: Call = info.context
        call.backend.sleep(call.backend.field_seconds)
        with call.backend.lock:
            return mutation(call, usable(input))

    return resolve


class DepthLimit(ASTValidationRule):
    """Refuses operations with a field that stands deeper than `DEPTH_LIMIT`."""

    def enter_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> None:
        if self._depth(node) > DEPTH_LIMIT:
            name = node.name.value if node.name else ""
            self.report_error(GraphQLError(f"'{name}' exceeds maximum operation depth of {DEPTH_LIMIT}", node))

    def _depth(self, node: OperationDefinitionNode | SelectionNode, so_far: int = -1) -> int:
        if isinstance(node, FragmentSpreadNode):
            fragment = self.context.get_fragment(node.name.value)
            selections = fragment.selection_set.selections if fragment else ()
        else:
            selection_set = getattr(node, "selection_set", None)
            selections = selection_set.selections if selection_set else ()
        here = so_far + isinstance(node, FieldNode)
        return max((self._depth(inner, here) for inner in selections), default=here)
