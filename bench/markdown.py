"""Tables in Markdown, and texts that stand between two marks of a page written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, a line for each row."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def between_marks(text: str, mark: str, content: str) -> str:
    """The text with this between `<!-- mark -->` and `<!-- /mark -->`. Raises ValueError when it has no such marks."""
    before, begin, rest = text.partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition(f"<!-- /{mark} -->")
    if not begin or not end:
        raise ValueError(f"There are no marks of {mark}")
    return before + begin + content + end + after
