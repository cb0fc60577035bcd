"""What a setting may look like: one parser for each form of value.

A parser takes what somebody gave (the text of an environment variable, what the command line collected, or a value of
the final type) and answers the value of the final type. What it cannot take raises ValueError with half a sentence
that follows the setting's name: what is wrong and what to give instead. Texts that may hold secrets are never quoted.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from chalicelib.errors import shorten

Parser = Callable[[Any], Any]

# Secret ARNs may carry `:json-key:version-stage:version-id`, as the `valueFrom` of an ECS secret does.
_SECRET_REFERENCE = re.compile(r"arn:[\w-]+:(secretsmanager:[\w-]+:\d+:secret:|ssm:[\w-]+:\d+:parameter/)\S+")
_URL = re.compile(r"https?://([\w.-]+|\[[\da-f:.]+\])(:\d{1,5})?([/?#][^\s\x00-\x1f]*)?", re.IGNORECASE)


def matching(pattern: str, what: str) -> Parser:
    """A parser of texts that match `pattern` as a whole; `what` describes them after "is not"."""
    expression = re.compile(pattern, re.ASCII | re.DOTALL)

    def parse(value: Any) -> str:
        if not isinstance(value, str) or not expression.fullmatch(value):
            raise _wrong(value, what)
        return value

    return parse


def one_of(*choices: str) -> Parser:
    """A parser of one of `choices`, in upper or lower case; the answer is spelt as the choice is."""
    spelt = {choice.lower(): choice for choice in choices}

    def parse(value: Any) -> str:
        word = str(value).lower()
        if word not in spelt:
            raise _wrong(value, f"one of {', '.join(choices)}")
        return spelt[word]

    return parse


def yes_or_no(value: Any) -> bool:
    """A boolean: `true`, `false`, `1` or `0`, in any case."""
    return one_of("true", "false", "1", "0")(value) in ("true", "1")


def number(kind: type[int] | type[float], least: int = 0, most: int = 10**9) -> Parser:
    """A parser of whole (int) or of any numbers (float) from `least` to `most`, both included."""
    what = f"a {'whole ' if kind is int else ''}number from {least} to {most}"

    def parse(value: Any) -> float:
        with suppress(ValueError):
            if least <= (found := kind(str(value))) <= most:
                return found
        raise _wrong(value, what)

    return parse


def url(value: Any) -> str:
    """An http or https URL. It is never quoted: a wrong one may hold a password."""
    if re.match(r"[^/]*//[^/?#]*@", str(value)):
        # requests would send these instead of the API key.
        raise ValueError("must not hold a user name or password; give the API key by its own setting")
    if not _URL.fullmatch(str(value)):
        raise ValueError("is not an http:// or https:// URL such as http://localhost:4200")
    return str(value)


def secret(value: Any) -> str:
    """A secret, or the ARN of what holds it, which begins with `arn:`; neither is ever quoted."""
    if not re.fullmatch(r"[\x21-\x7e]+", str(value)):
        raise ValueError("holds white space or characters that no key has; give the key alone")
    if str(value).startswith("arn:") and not _SECRET_REFERENCE.fullmatch(str(value)):
        raise ValueError("is an ARN, but neither of a Secrets Manager secret nor of an SSM parameter")
    return str(value)


def literal(value: str) -> Any:
    """What JSON or Python makes of a text; None when neither can read it."""
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return read(value)
    return None


def _comma_separated(value: str) -> list[str] | None:
    return [part.strip() for part in value.split(",") if part.strip()] or None


def list_of(
    item: Parser, what: str = "a comma separated list", read: Parser = _comma_separated, in_order: bool = False
) -> Parser:
    """A parser of lists of `item`, each once, also out of a text by `read`; sorted unless they stay `in_order`."""

    def parse(value: Any) -> tuple[Any, ...]:
        listed = read(value) if isinstance(value, str) else value
        if not isinstance(listed, list | tuple | set | frozenset):
            raise _wrong(value, what)
        parsed = dict.fromkeys(item(part) for part in listed)
        return tuple(parsed if in_order else sorted(parsed))

    return parse


def by_name(item: Parser) -> Parser:
    """A parser of values by name, out of `name=value,other=value`; a value alone is that of the name ""."""

    def parse(value: Any) -> dict[str, Any]:
        if isinstance(value, Mapping):
            return {name: item(content) for name, content in value.items()}
        parts = (part.rpartition("=") for part in _comma_separated(str(value)) or ())
        return {name.strip(): item(content.strip()) for name, _, content in parts}

    return parse


ENV_VARS_LIMIT = 4096
"""Half of the 8,192 characters that ECS takes for a task's overrides: the rest is the flow run's and the agent's."""


def env_vars(value: Any) -> dict[str, str]:
    """Variables by name: from the text of a JSON or Python object, from NAME=VALUE texts, or from a mapping."""
    found = literal(value) if isinstance(value, str) else value
    if isinstance(found, list | tuple):
        bare = [place for place, item in enumerate(found, start=1) if "=" not in str(item)]
        if bare:
            raise ValueError(f"has no `=` in assignment {bare[0]}; write NAME=VALUE")
        found = dict(str(item).split("=", 1) for item in found)
    if not isinstance(found, Mapping):
        raise ValueError("""is not an object of texts such as '{"REGION": "eu-west-1"}'""")
    for name, content in found.items():
        if not isinstance(name, str) or not name.strip():
            raise ValueError("has a variable without a name; write NAME=VALUE")
        if not isinstance(content, str):
            raise ValueError(f'gives "{shorten(name, 80)}" a value that is not a text; put it in quotes')
        if "\x00" in name + content:
            raise ValueError(f'gives "{shorten(name, 80)}" a NUL, which no process can be given; leave it out')
    if len(json.dumps(found)) > ENV_VARS_LIMIT:
        raise ValueError(f"has over {ENV_VARS_LIMIT} characters, and goes into every task; let flows read it elsewhere")
    return dict(found)


def _wrong(value: Any, what: str) -> ValueError:
    return ValueError(f'"{shorten(str(value), 80)}" is not {what}')
