"""Task definition templates: files and S3 objects that a run or the operator names.

Whoever deploys a flow is not whoever runs the agent, so a path that a run names is read only where the operator said,
and nothing that stands in a file is ever in a message: it might be a file that was never meant to be a template.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from chalicelib.errors import LaunchDeferred, SettingsError, UnsupportedRun, shorten
from chalicelib.flow_runs import Document
from chalicelib.launchers.safe_yaml import MalformedTemplate, load_object

TEMPLATE_LIMIT = 256 * 1024
"""Bytes of the largest template that is read; ECS itself takes definitions of 64 KB."""

_LOCAL_SCHEMES = ("", "file", "local", "agent")
_NOT_NOW = frozenset(
    {"ExpiredToken", "InternalError", "RequestTimeout", "SlowDown", "Throttling", "ThrottlingException"}
)
"""S3's error codes for `try again`, beside every 5xx."""

S3ClientFactory = Callable[[], Any]


class TemplateUnreadable(Exception):
    """There is no such template, or it cannot be read; says why, without any content."""


class TemplateReader:
    """Reads the templates that runs name, from the places that the operator listed and nowhere else.

    `allowed` are absolute directories, and `s3://bucket/prefix/` for objects. With `local_allowed` False directories
    count for nothing: a Lambda's disk has no templates, only its own code. `s3_client_factory` is called when the
    first S3 object is read, never before.
    """

    def __init__(self, allowed: Sequence[str], s3_client_factory: S3ClientFactory, local_allowed: bool) -> None:
        self._prefixes = tuple(place.rstrip("/") + "/" for place in allowed if place.startswith("s3://"))
        directories = [place for place in allowed if not place.startswith("s3://")]
        self._directories = tuple(Path(place).resolve() for place in directories if local_allowed)
        self._s3_client_factory = s3_client_factory

    def read(self, path: str) -> Document:
        """The template at `path`.

        Raises UnsupportedRun when the path is not allowed, is not there or holds no template, and LaunchDeferred while
        S3 cannot answer.
        """
        try:
            return load_object(self._bytes_at(path))
        except (TemplateUnreadable, MalformedTemplate) as error:
            raise UnsupportedRun(f"the template {shorten(path)} cannot be used: {error}") from None

    def _bytes_at(self, path: str) -> bytes:
        scheme, rest = _split(path)
        if scheme == "s3" and self._allows_object(path):
            return _read_object(self._s3_client_factory(), rest)
        if scheme in _LOCAL_SCHEMES:
            file = _resolve(rest)
            if any(file.is_relative_to(directory) for directory in self._directories):
                return _read_file(file)
        raise TemplateUnreadable("it lies outside of what this agent may read (AGENT_TEMPLATE_PATHS lists that)")

    def _allows_object(self, path: str) -> bool:
        # HTTP libraries fold `.` and `..` in a path, so such a key would not be the one that was compared.
        plain = not {"", ".", ".."} & set(path.removeprefix("s3://").split("/"))
        return plain and path.startswith(self._prefixes)


def read_own_template(path: str, s3_client_factory: S3ClientFactory | None = None) -> Document:
    """The operator's own template at `path`: a file anywhere, or an S3 object if there is a factory for the client.

    Raises SettingsError when there is none, whatever the reason.
    """
    scheme, rest = _split(path)
    try:
        if scheme == "s3" and s3_client_factory is not None:
            return load_object(_read_object(s3_client_factory(), rest))
        if scheme in _LOCAL_SCHEMES:
            return load_object(_read_file(_resolve(rest)))
    except (TemplateUnreadable, MalformedTemplate, LaunchDeferred) as error:
        raise SettingsError([f"{shorten(path)}: {error}"]) from None
    raise SettingsError([f"{shorten(path)}: only files and s3:// objects can be read"])


def _split(path: str) -> tuple[str, str]:
    """The scheme of a path in lower case, "" when it has none, and the rest."""
    scheme, separator, rest = path.partition("://")
    return (scheme.lower(), rest) if separator else ("", path)


def _resolve(path: str) -> Path:
    """Where a path leads once every link is followed, whether anything is there or not."""
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError):
        raise TemplateUnreadable("it is not a path") from None


def _read_file(file: Path) -> bytes:
    """The bytes of a resolved path; what became a link since, or is no regular file, is not opened."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TemplateUnreadable(f"it cannot be opened ({os.strerror(error.errno or 0)})") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise TemplateUnreadable("it is not a file")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            content = stream.read(TEMPLATE_LIMIT + 1)
        _check_length(len(content))
        return content
    finally:
        os.close(descriptor)


def _read_object(client: Any, rest: str) -> bytes:
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = rest.partition("/")
    try:
        answer = client.get_object(Bucket=bucket, Key=key)
        with closing(answer["Body"]) as body:  # its own `with` gives the socket, whose errors are not botocore's
            _check_length(answer.get("ContentLength", 0))
            # Without an amount botocore notices when the object is cut short: half a template can be valid YAML.
            return cast(bytes, body.read())
    except ClientError as error:
        raise _s3_refusal(error.response) from None
    except BotoCoreError as error:
        # Away, too slow, cut off, without credentials: none of it is the run's fault.
        raise LaunchDeferred(
            f"S3 did not answer for the template s3://{shorten(rest)} ({type(error).__name__})"
        ) from None


def _s3_refusal(response: Document) -> Exception:
    code = str(response.get("Error", {}).get("Code", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    if status >= 500 or code in _NOT_NOW:
        return LaunchDeferred(f"S3 cannot give the template now ({shorten(code, 60)})")
    return TemplateUnreadable(f"S3 refuses it ({shorten(code, 60)}): the agent's role needs s3:GetObject on it")


def _check_length(length: int) -> None:
    if length > TEMPLATE_LIMIT:
        raise TemplateUnreadable(f"it is larger than {TEMPLATE_LIMIT // 1024} KB")
