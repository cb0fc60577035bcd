"""One GraphQL operation: parsed, checked as the gateway checks it, executed, and answered in the gateway's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    execute,
    parse,
    specified_rules,
    validate,
)

from tests.doubles.prefect1.backend import Call
from tests.doubles.prefect1.schema import DepthLimit, schema

PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
INTERNAL_ERROR = "INTERNAL_SERVER_ERROR"


@dataclass(frozen=True)
class Answer:
    """What goes back over HTTP."""

    status: int
    body: Any


@dataclass(frozen=True)
class Field:
    """A root field of an operation; `alias` is its name in the answer."""

    alias: str
    name: str


@dataclass(frozen=True)
class _Document:
    node: DocumentNode | None = None
    errors: tuple[GraphQLError, ...] = ()
    code: str = ""


def answer(call: Call, query: str, variables: Mapping[str, Any] | None, operation_name: str | None = None) -> Answer:
    """Execute one operation. A mutation holds the lock field by field, so that others come in between."""
    document = _document(query, call.backend.cloud)
    if document.errors or document.node is None:
        return Answer(400, {"errors": [_error(error, document.code) for error in document.errors]})
    mutates = _operation(document.node).operation is OperationType.MUTATION
    if not mutates:
        call.backend.sleep(call.backend.field_seconds)
    with nullcontext() if mutates else call.backend.lock:
        result = execute(
            schema(call.backend.cloud),
            document.node,
            context_value=call,
            variable_values=dict(variables or {}),
            operation_name=operation_name,
        )
    assert isinstance(result, ExecutionResult)
    return _answer(result)


def outline(query: str, cloud: bool) -> tuple[tuple[Field, ...], bool]:
    """The root fields in the order of the query, none when it cannot be parsed, and whether it is a mutation."""
    document = _document(query, cloud).node
    if document is None:
        return (), False
    operation = _operation(document)
    nodes = [each for each in operation.selection_set.selections if isinstance(each, FieldNode)]
    fields = tuple(Field((each.alias or each.name).value, each.name.value) for each in nodes)
    return fields, operation.operation is OperationType.MUTATION


@lru_cache(maxsize=512)
def _document(query: str, cloud: bool) -> _Document:
    try:
        node = parse(query)
        _operation(node)
    except GraphQLError as error:
        return _Document(errors=(error,), code=PARSE_FAILED)
    errors = validate(schema(cloud), node, specified_rules) or validate(schema(cloud), node, [DepthLimit])
    return _Document(node, tuple(errors), VALIDATION_FAILED)


def _operation(document: DocumentNode) -> OperationDefinitionNode:
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            return definition
    raise GraphQLError("Must provide an operation.")


def _answer(result: ExecutionResult) -> Answer:
    errors = result.errors or []
    if any(error.path is None for error in errors):
        return Answer(400, {"errors": [_error(error, INTERNAL_ERROR) for error in errors]})
    body = {"errors": [_error(error, INTERNAL_ERROR) for error in errors]} if errors else {}
    return Answer(200, {**body, "data": result.data})


def _error(error: GraphQLError, code: str) -> dict[str, Any]:
    extensions: dict[str, Any] = {"code": code}
    formatted: dict[str, Any] = {"message": _worded(error.message) if code == VALIDATION_FAILED else error.message}
    if error.locations:
        formatted["locations"] = [{"line": at.line, "column": at.column} for at in error.locations]
    if error.path is not None:
        formatted["path"] = list(error.path)
        extensions["exception"] = {"message": error.message}
    return {**formatted, "extensions": extensions}


def _worded(message: str) -> str:
    """The message with the gateway's double quotes round names."""
    return re.sub(r"'([^']+)'", r'"\1"', message)
