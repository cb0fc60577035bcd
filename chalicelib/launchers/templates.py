"""Task definition templates: files and S3 objects in YAML or JSON that a run or the operator names.

Whoever deploys a flow is not whoever runs the agent, so a path that a run names is read only where the operator said,
and nothing that stands in a file is ever in a message: it might be a file that was never meant to be a template.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from chalicelib.errors import LaunchError, LaunchForbidden, LaunchRejected, SettingsError, UnsupportedRun, shorten
from chalicelib.flow_runs import Document
from chalicelib.launchers.aws_answers import answers

TEMPLATE_LIMIT = 256 * 1024
"""Bytes of the largest template that is read, and how large it may be once its aliases are written out."""

_DEPTH_LIMIT = 40
_OUTSIDE = "it is no file or s3:// object in what this agent may read (AGENT_TEMPLATE_PATHS lists that)"
_LOCAL_SCHEMES = ("", "file", "local", "agent")
_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null", "merge")}
_KEY_TAGS = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"}


class TemplateReader:
    """Reads templates from the places that the operator listed and nowhere else.

    `allowed` are absolute directories, and `s3://bucket/prefix/` for objects. With `local_allowed` False directories
    count for nothing: a Lambda's disk has no templates, only its own code. `s3_client` is called when the first S3
    object is read, never before.
    """

    def __init__(self, allowed: Sequence[str], s3_client: Callable[[], Any], local_allowed: bool) -> None:
        self._prefixes = tuple(place.rstrip("/") + "/" for place in allowed if place.startswith("s3://"))
        directories = [place for place in allowed if not place.startswith("s3://")]
        self._directories = tuple(Path(place).resolve() for place in directories if local_allowed)
        self._s3_client = s3_client

    def read(self, path: str) -> Document:
        """The template at `path`.

        Raises UnsupportedRun when the path is not allowed, is not there or holds no template, LaunchDeferred while S3
        cannot answer, and LaunchForbidden when S3 does not take the agent's credentials.
        """
        try:
            return load_object(self._bytes_at(path))
        except LaunchForbidden:
            raise
        except (UnsupportedRun, LaunchRejected) as error:
            raise UnsupportedRun(f"the template {shorten(path)} cannot be used: {error}") from None

    def _bytes_at(self, path: str) -> bytes:
        scheme, separator, rest = path.partition("://")
        # HTTP libraries fold `.` and `..` in a path, so such a key would not be the one that was compared.
        is_plain = not {"", ".", ".."} & set(rest.split("/"))
        if scheme == "s3" and is_plain and path.startswith(self._prefixes):
            return self._read_object(rest)
        if not separator or scheme.lower() in _LOCAL_SCHEMES:
            return self._read_file(rest if separator else path)
        raise UnsupportedRun(_OUTSIDE)

    def _read_file(self, path: str) -> bytes:
        try:
            file = Path(path).resolve()
            if not any(file.is_relative_to(directory) for directory in self._directories):
                raise UnsupportedRun(_OUTSIDE)
            # What became a link since is not followed, and a pipe not waited for.
            flags = os.O_NOFOLLOW | os.O_NONBLOCK
            with open(file, "rb", opener=lambda path, mode: os.open(path, mode | flags)) as stream:
                if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    raise UnsupportedRun("it is not a file")
                return stream.read(TEMPLATE_LIMIT + 1)
        except (OSError, RuntimeError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not a path"
            raise UnsupportedRun(f"it cannot be opened ({reason})") from None

    def _read_object(self, rest: str) -> bytes:
        bucket, _, key = rest.partition("/")
        with answers(f"s3:GetObject of s3://{shorten(rest)}", runs_own={"AccessDenied"}):
            answer = self._s3_client().get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{TEMPLATE_LIMIT}")
            # Without an amount botocore notices when the object is cut short: half a template can be valid YAML.
            content: bytes = answer["Body"].read()
            return content


def read_own_template(path: str, s3_client: Callable[[], Any]) -> Document:
    """The operator's own template, a file or S3 object anywhere; raises SettingsError for whatever is wrong with it."""
    try:
        return TemplateReader(["/", "s3://"], s3_client, local_allowed=True).read(path)
    except (UnsupportedRun, LaunchError) as error:
        raise SettingsError([str(error)]) from None


def load_object(content: bytes) -> dict[str, Any]:
    """The object that a YAML or JSON text holds, with keys of text and JSON values only.

    Raises UnsupportedRun, which says the line where it can and never what stands there.
    """
    import yaml  # 12 ms and 1 MB that only a run with a template pays for

    if len(content) > TEMPLATE_LIMIT:
        raise UnsupportedRun(f"it is larger than {TEMPLATE_LIMIT // 1024} KB")
    try:
        loader = yaml.SafeLoader(content)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise UnsupportedRun("it is not an object at its top")
        _check_node(root)
        document: dict[str, Any] = loader.construct_document(root)
        json.dumps(document, allow_nan=False)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UnsupportedRun(f"it is not valid YAML{f', line {mark.line + 1}' if mark else ''}") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError):
        raise UnsupportedRun("it is not valid YAML, or has a number that JSON cannot hold") from None
    return document


def _check_node(node: Any, room: int = TEMPLATE_LIMIT, depth: int = 0) -> int:
    """What of `room` is left beside this node, written out: an alias of two bytes may stand for a whole tree."""
    line = f"line {node.start_mark.line + 1}"
    if node.tag not in _PLAIN_TAGS:
        raise UnsupportedRun(f"{line} has a value that is not text, a number, true or false: put it in quotes")
    if node.id == "mapping" and any(key.tag not in _KEY_TAGS for key, _ in node.value):
        raise UnsupportedRun(f"{line} has a key that is not text: put it in quotes")
    children = () if node.id == "scalar" else node.value if node.id == "sequence" else chain.from_iterable(node.value)
    room -= 1 + (len(node.value) if node.id == "scalar" else 0)
    if room < 0 or depth > _DEPTH_LIMIT:
        raise UnsupportedRun(f"{line} makes it too large or too deeply nested, with its aliases written out")
    for child in children:
        room = _check_node(child, room, depth + 1)
    return room
