"""YAML that strangers wrote, read into plain JSON; errors say where, never what."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from chalicelib.errors import shorten

_WRITTEN_OUT_LIMIT = 512 * 1024
"""Characters of a template once its aliases and merge keys are written out, each value counting 8 more."""
_DEPTH = 40


class MalformedTemplate(Exception):
    """It is not YAML, or not an object of plain JSON values; says the line or the key."""


def load_object(content: bytes) -> dict[str, Any]:
    """The object that a YAML or JSON text holds, with keys of text and JSON values only. Raises MalformedTemplate."""
    import yaml  # 12 ms and 1 MB that only a run with a template pays for

    loader = None
    try:
        loader = yaml.SafeLoader(content)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise MalformedTemplate("it is not an object at its top")
        _check_size(root)
        document: dict[str, Any] = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise MalformedTemplate(f"it is not valid YAML{f', line {mark.line + 1}' if mark else ''}") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError):
        raise MalformedTemplate("it is not valid YAML") from None
    finally:
        if loader is not None:
            loader.dispose()
    _check_plain(document, "")
    return document


def _check_size(root: Any) -> None:
    """Refuse what would grow without bounds: an alias costs its author two bytes and the reader a whole subtree."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size_of(node: Any, depth: int) -> int:
        known = sizes.get(id(node))
        if known is not None:
            return known
        if id(node) in open_nodes or depth > _DEPTH:
            raise MalformedTemplate(f"it is nested too deeply, line {node.start_mark.line + 1}")
        open_nodes.add(id(node))
        size = 8 + (len(node.value) if isinstance(node.value, str) else 0)
        size += sum(size_of(child, depth + 1) for child in _children(node))
        open_nodes.discard(id(node))
        if size > _WRITTEN_OUT_LIMIT:
            raise MalformedTemplate(f"it is too large with its aliases written out, line {node.start_mark.line + 1}")
        sizes[id(node)] = size
        return size

    size_of(root, 0)


def _children(node: Any) -> Iterable[Any]:
    if isinstance(node.value, str):
        return ()
    return [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]


def _check_plain(value: object, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise MalformedTemplate(f"{where or 'it'} has a key that is not text")
            _check_plain(item, f"{where}.{shorten(key, 60)}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    elif not isinstance(value, (str, bool, int, float, type(None))) or value in (math.inf, -math.inf) or value != value:
        raise MalformedTemplate(f"{where} is not text, a number, true or false: put it in quotes")
