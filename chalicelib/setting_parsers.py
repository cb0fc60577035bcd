"""What a setting may look like: one parser for each form of value.

A parser takes what somebody gave (the text of an environment variable, what the command line collected, or a value of
the final type) and answers the value of the final type. What it cannot take raises ValueError with half a sentence
that follows the setting's name: what is wrong and what to give instead. Texts that may hold secrets are never quoted.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from chalicelib.errors import shorten

Parser = Callable[[Any], Any]

# Secret ARNs may carry `:json-key:version-stage:version-id`, as the `valueFrom` of an ECS secret does.
_SECRET_REFERENCE = re.compile(
    r"arn:aws[a-z-]*:(?:secretsmanager:[a-z0-9-]+:\d{12}:secret:[\w/+=.@!-]+(?::[^:\s]*){0,3}"
    r"|ssm:[a-z0-9-]+:\d{12}:parameter/[\w./-]+)",
    re.ASCII,
)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def text(value: Any) -> str:
    """A text as it stands."""
    if not isinstance(value, str):
        raise ValueError(f"{_quoted(value)} is not a text")
    return value


def matching(pattern: str, what: str) -> Parser:
    """A parser of texts that match `pattern` as a whole; `what` describes them after "is not"."""
    expression = re.compile(pattern, re.ASCII)

    def parse(value: Any) -> str:
        if not expression.fullmatch(text(value)):
            raise ValueError(f"{_quoted(value)} is not {what}")
        return str(value)

    return parse


def one_of(*choices: str) -> Parser:
    """A parser of one of `choices`, in upper or lower case; the answer is spelt as the choice is."""
    spelt = {choice.lower(): choice for choice in choices}

    def parse(value: Any) -> str:
        if text(value).lower() not in spelt:
            raise ValueError(f"{_quoted(value)} is not one of {', '.join(choices)}")
        return spelt[value.lower()]

    return parse


def yes_or_no(value: Any) -> bool:
    """A boolean: `true`, `false`, `1` or `0`, in any case."""
    words = {"true": True, "1": True, "false": False, "0": False}
    word = str(value).lower()
    if word not in words:
        raise ValueError(f"{_quoted(value)} is neither true nor false")
    return words[word]


def whole_number(least: int, most: int | None = None) -> Parser:
    """A parser of integers from `least` to `most`, both included; None is no upper limit."""
    form = f"a whole number from {least} to {most}" if most is not None else f"a whole number of at least {least}"

    def parse(value: Any) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", str(value)):
            raise ValueError(f"{_quoted(value)} is not {form}")
        number = int(value)
        if number < least or (most is not None and number > most):
            raise ValueError(f"{number} is not {form}")
        return number

    return parse


def rate(value: Any) -> float:
    """A number per second: finite, 0 or more."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"{_quoted(value)} is not a number of 0 or more")
    return number


def uuid(value: Any) -> str:
    """A UUID in its usual form with dashes, in lower case."""
    if not _UUID.fullmatch(text(value)):
        raise ValueError(f"{_quoted(value)} is not a UUID such as 6e3ad6c1-55a2-4a16-8e1a-3c1b6f0c3b52")
    return str(value).lower()


def url(value: Any) -> str:
    """An http or https URL. It is never quoted: a wrong one may hold a password."""
    form = "is not an http:// or https:// URL such as http://localhost:4200"
    try:
        parts = urlsplit(text(value))
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(form) from None
    if parts.scheme not in ("http", "https") or not has_host or re.search(r"[\s\x00-\x1f]", value):
        raise ValueError(form)
    if "@" in parts.netloc:
        # requests would send these instead of the API key.
        raise ValueError("must not hold a user name or password; give the API key by its own setting")
    return str(value)


def secret(value: Any) -> str:
    """A secret, or the ARN of what holds it; neither is ever quoted."""
    if not re.fullmatch(r"[\x21-\x7e]+", text(value)):
        raise ValueError("holds white space or characters that no key has; give the key alone")
    if value.startswith("arn:") and not _SECRET_REFERENCE.fullmatch(value):
        raise ValueError("is an ARN, but neither of a Secrets Manager secret nor of an SSM parameter")
    return str(value)


def is_secret_reference(value: str) -> bool:
    """Whether a secret, as `secret` parsed it, is the ARN of what holds it."""
    return value.startswith("arn:")


def labels(value: Any) -> tuple[str, ...]:
    """Labels, each once and sorted: from the text of a JSON or Python list, or from a list."""
    form = """is not a list of labels such as '["dev", "staging"]'"""
    listed = _literal(value) if isinstance(value, str) else value
    if isinstance(listed, Mapping | str) or not isinstance(listed, Iterable):
        raise ValueError(form)
    found = list(listed)
    for label in found:
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"{_quoted(label)} is not a label; a label is a text that is not empty")
        if "," in label:
            raise ValueError(f"{_quoted(label)} holds a comma; give each label by itself")
    return tuple(sorted(set(found)))


def env_vars(value: Any) -> dict[str, str]:
    """Variables by name: from the text of a JSON or Python object, from NAME=VALUE texts, or from a mapping."""
    found = _literal(value) if isinstance(value, str) else value
    pairs = dict(found) if isinstance(found, Mapping) else _assignments(found)
    for name, content in pairs.items():
        if not isinstance(name, str) or not name.strip():
            raise ValueError("has a variable without a name; write NAME=VALUE")
        if not isinstance(content, str):
            raise ValueError(f"gives {_quoted(name)} a value that is not a text; put it in quotes")
    return pairs


def comma_list(item: Parser, most: int | None = None) -> Parser:
    """A parser of comma separated texts, or of a list, of what `item` parses; at most `most` of them."""

    def parse(value: Any) -> tuple[Any, ...]:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, Mapping) or not isinstance(value, Iterable):
            raise ValueError(f"{_quoted(value)} is not a comma separated list")
        items = tuple(dict.fromkeys(item(part) for part in value))
        if not items:
            raise ValueError("lists nothing; leave it out or name at least one")
        if most is not None and len(items) > most:
            raise ValueError(f"lists {len(items)}; at most {most} are possible")
        return items

    return parse


def template_path(value: Any) -> str:
    """An absolute directory below `/`, or `s3://bucket/prefix/`."""
    path = text(value)
    is_directory = re.fullmatch(r"(/[^/\0]+)+/?", path)
    # Without the last slash `s3://bucket/team` would also allow `s3://bucket/team-of-others/`.
    is_prefix = re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+/([^/\0]+/)*", path)
    if not (is_directory or is_prefix) or {".", ".."} & set(path.split("/")):
        raise ValueError(f"{_quoted(path)} is neither an absolute directory nor s3://bucket/prefix/ with a last slash")
    return path


def _literal(value: str) -> Any:
    """What JSON or Python makes of a text; None when neither can read it."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
    return None


def _assignments(value: Any) -> dict[Any, Any]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError("""is not an object of texts such as '{"REGION": "eu-west-1"}'""")
    pairs = [item.partition("=") if isinstance(item, str) else ("", "", "") for item in value]
    for place, (_, equals, _) in enumerate(pairs, start=1):
        if not equals:
            raise ValueError(f"has no `=` in assignment {place}; write NAME=VALUE")
    return {name: content for name, _, content in pairs}


def _quoted(value: Any) -> str:
    return f'"{shorten(str(value), 80)}"'
