"""GraphQL documents out of root fields (pure).

Each root field of a request has an alias, and so a result, of its own. JSON values must travel as variables, and a
variable that is declared and not used is an error, so each field brings along exactly those that its text uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RootField:
    """One aliased root field. `variables` maps a variable's name to its GraphQL type and value."""

    alias: str
    text: str
    variables: Mapping[str, tuple[str, Any]] = field(default_factory=dict)


def compose(operation: str, fields: Sequence[RootField]) -> dict[str, Any]:
    """The body of a request: `operation` is `query` or `mutation`.

    Aliases must differ; a variable that several fields name must be the same one in each.
    """
    variables: dict[str, tuple[str, Any]] = {}
    for root_field in fields:
        variables.update(root_field.variables)
    declarations = ", ".join(f"${name}: {kind}" for name, (kind, _) in variables.items())
    signature = f"({declarations})" if declarations else ""
    lines = "\n".join(f"  {root_field.alias}: {root_field.text}" for root_field in fields)
    values = {name: value for name, (_, value) in variables.items()}
    return {"query": f"{operation}{signature} {{\n{lines}\n}}", "variables": values}
