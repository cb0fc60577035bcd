"""Filters and orders of the table queries: Hasura's `bool_exp` and `order_by`, with SQL's three-valued logic.

An operator given null is no condition at all, so `{id: {_eq: null}}` matches every row.
"""

from __future__ import annotations

import operator
import re
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from tests.doubles.prefect1.store import Refused, Row, Store, parse_time
from tests.doubles.prefect1.tables import TABLES

Truth = bool | None
"""True, False, or None for SQL's unknown."""
Condition = Callable[[Row], Truth]


def compile_filter(store: Store, table: str, where: Mapping[str, Any] | None) -> Condition:
    """A condition on the rows of `table`. Raises Refused for a value that its column's type cannot hold."""
    conditions = [_clause(store, table, name, value) for name, value in (where or {}).items() if value is not None]
    return _every(conditions)


def named_ids(where: Mapping[str, Any] | None) -> Collection[str | None] | None:
    """The only ids that can meet this filter, where it says so outright; None where any row may."""
    comparison = (where or {}).get("id") or {}
    if comparison.get("_eq") is not None:
        return [_typed("uuid", comparison["_eq"])]
    if comparison.get("_in") is not None:
        return dict.fromkeys(_typed("uuid", value) for value in comparison["_in"])
    return None


def _clause(store: Store, table: str, name: str, value: Any) -> Condition:
    if name == "_and":
        return _every([compile_filter(store, table, part) for part in value])
    if name == "_or":
        return _some([compile_filter(store, table, part) for part in value])
    if name == "_not":
        return _negated(compile_filter(store, table, value))
    if name in TABLES[table].columns:
        return _column(name, TABLES[table].type_of(name), value)
    return _exists(store, table, name, value)


def _every(conditions: list[Condition]) -> Condition:
    def holds(row: Row) -> Truth:
        answer: Truth = True
        for condition in conditions:
            each = condition(row)
            if each is False:
                return False
            answer = answer if each else None
        return answer

    return holds


def _some(conditions: list[Condition]) -> Condition:
    def holds(row: Row) -> Truth:
        answer: Truth = False
        for condition in conditions:
            each = condition(row)
            if each:
                return True
            answer = None if each is None else answer
        return answer

    return holds


def _negated(condition: Condition) -> Condition:
    def holds(row: Row) -> Truth:
        answer = condition(row)
        return None if answer is None else not answer

    return holds


def _exists(store: Store, table: str, relation: str, where: Mapping[str, Any]) -> Condition:
    target = {**TABLES[table].one, **TABLES[table].many}[relation][0]
    condition = compile_filter(store, target, where)
    return lambda row: any(condition(related) is True for related in related_rows(store, table, relation, row))


def related_rows(store: Store, table: str, relation: str, row: Row) -> list[Row]:
    """The rows at the other end of a relation; at most one when it is to one."""
    if relation in TABLES[table].one:
        target, foreign_key = TABLES[table].one[relation]
        found = store.get(target, row[foreign_key])
        return [found] if found else []
    target, foreign_key = TABLES[table].many[relation]
    return store.owned(target, foreign_key, row["id"])


def _column(column: str, kind: str, comparison: Mapping[str, Any]) -> Condition:
    tests = [
        _comparison(column, name, _operand(kind, name, operand))
        for name, operand in comparison.items()
        if operand is not None
    ]
    return _every(tests)


def _comparison(column: str, name: str, operand: Any) -> Condition:
    if name == "_is_null":
        return lambda row: (row[column] is None) is operand
    compare = COMPARISONS[name]
    return lambda row: None if row[column] is None else compare(row[column], operand)


def _operand(kind: str, name: str, operand: Any) -> Any:
    if name in ("_in", "_nin"):
        return [_typed(kind, value) for value in operand]
    return operand if name.startswith(("_is", "_has")) else _typed(kind, operand)


def _typed(kind: str, value: Any) -> Any:
    try:
        if kind == "uuid":
            return str(uuid.UUID(value))
        return parse_time(value) if kind == "timestamptz" else value
    except (ValueError, TypeError, AttributeError):
        name = "timestamp with time zone" if kind == "timestamptz" else kind
        raise Refused(f'invalid input syntax for type {name}: "{value}"') from None


def contains(outer: Any, inner: Any, top: bool = True) -> bool:
    """PostgreSQL's `outer @> inner` for JSON documents."""
    if isinstance(outer, Mapping) and isinstance(inner, Mapping):
        return all(key in outer and contains(outer[key], value, False) for key, value in inner.items())
    if isinstance(outer, list) and isinstance(inner, list):
        return all(any(contains(element, value, False) for element in outer) for value in inner)
    if top and isinstance(outer, list) and not isinstance(inner, Mapping):
        return any(contains(element, inner, False) for element in outer)
    return type(outer) is type(inner) and bool(outer == inner)


def _like(value: str, pattern: str, flags: int = 0) -> bool:
    parts = (".*" if char == "%" else "." if char == "_" else re.escape(char) for char in pattern)
    return re.fullmatch("".join(parts), value, flags | re.DOTALL) is not None


COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "_eq": operator.eq,
    "_neq": operator.ne,
    "_gt": operator.gt,
    "_gte": operator.ge,
    "_lt": operator.lt,
    "_lte": operator.le,
    "_in": lambda value, among: value in among,
    "_nin": lambda value, among: value not in among,
    "_like": _like,
    "_nlike": lambda value, pattern: not _like(value, pattern),
    "_ilike": lambda value, pattern: _like(value, pattern, re.IGNORECASE),
    "_nilike": lambda value, pattern: not _like(value, pattern, re.IGNORECASE),
    "_contains": contains,
    "_contained_in": lambda value, outer: contains(outer, value),
    "_has_key": lambda value, key: isinstance(value, (dict, list)) and key in value,
    "_has_keys_any": lambda value, keys: isinstance(value, (dict, list)) and any(key in value for key in keys),
    "_has_keys_all": lambda value, keys: isinstance(value, (dict, list)) and all(key in value for key in keys),
}


def ordered(rows: Iterable[Row], order_by: list[Mapping[str, str]] | None) -> list[Row]:
    """The rows by the first column, then the next; nulls are last when ascending and first when descending."""
    result = list(rows)
    columns = [(column, order) for part in order_by or [] for column, order in part.items() if order]
    for column, order in reversed(columns):
        result = _by_column(result, column, order)
    return result


def _by_column(rows: list[Row], column: str, order: str) -> list[Row]:
    descending = order.startswith("desc")
    nulls = [row for row in rows if row[column] is None]
    others = sorted((row for row in rows if row[column] is not None), key=lambda row: row[column], reverse=descending)
    nulls_first = order == "asc_nulls_first" or order == "desc"
    return nulls + others if nulls_first else others + nulls
