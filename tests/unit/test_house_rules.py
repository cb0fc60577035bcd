"""What CONTRIBUTING.md says of the size of things, counted."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PRODUCT = [PROJECT / "app.py", *sorted((PROJECT / "chalicelib").rglob("*.py"))]
PRODUCT_LINES, MODULE_LINES, FUNCTION_LINES = 4500, 300, 40
SILENT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
}


def lines_of_code(path: Path) -> int:
    """Lines with code on them: neither blank, nor comment, nor part of a text that stands for itself."""
    source = path.read_bytes()
    lines: set[int] = set()
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        if token.type not in SILENT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def test_the_product_stays_small_enough_to_be_read() -> None:
    assert 1000 < sum(lines_of_code(path) for path in PRODUCT) < PRODUCT_LINES


def test_no_module_and_no_function_is_too_long_to_be_seen_at_once() -> None:
    too_long = []
    for path in PRODUCT:
        source = path.read_text()
        too_long += [path.name] if len(source.splitlines()) > MODULE_LINES else []
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES:
                too_long.append(f"{path.name}:{node.name}")
    assert too_long == []
