"""What a tick would launch, as JSON that may be shown: whole requests without their secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from chalicelib.outcomes import Build
from chalicelib.settings import Settings

REDACTED = "***"

_SECRET_NAME = re.compile(
    r"passw|passphrase|pwd|secret|token|credential|dsn|connection.?string|(api|access|private|account).?key"
    r"|(?<![a-z])(auth|key)(?![a-z])",
    re.IGNORECASE,
)
_HARMLESS_VALUES = {"", "true", "false"}
# Names of ECS's and Kubernetes' own fields that sound secret and are not: they hold names and references.
_HARMLESS_FIELDS = {"key", "clientToken", "credentialsParameter", "secretName", "secretKeyRef", "secretRef"}
_URL_WITH_PASSWORD = re.compile(r"(://[^/@\s:]*):[^/@\s]+@")


def render_previews(builds: Sequence[Build], settings: Settings) -> str:
    """One JSON document, a list with an object for each flow run: its launch request, or why there is none."""
    hide = _hider([settings.plain_api_key, settings.plain_auth_token])
    return json.dumps([_shown(build, hide) for build in builds], indent=2)


def _shown(build: Build, hide: Callable[[str], str]) -> dict[str, Any]:
    run = build.run
    shown: dict[str, Any] = {"flow_run_id": run.id, "name": run.name, "start_time": run.start_time.isoformat()}
    if build.problem is not None:
        return {**shown, "problem": hide(build.problem)}
    return {**shown, "launch": _redacted(build.request, hide)}


def _hider(secrets: Sequence[str | None]) -> Callable[[str], str]:
    """A function that takes the agent's own secrets, and the passwords of URLs, out of any text."""
    known = [secret for secret in secrets if secret]

    def hide(text: str) -> str:
        for secret in known:
            text = text.replace(secret, REDACTED)
        return _URL_WITH_PASSWORD.sub(rf"\1:{REDACTED}@", text)

    return hide


def _redacted(value: Any, hide: Callable[[str], str]) -> Any:
    """A copy of `value` that JSON can say."""
    if is_dataclass(value) and not isinstance(value, type):
        value = {item.name: getattr(value, item.name) for item in fields(value)}
    if isinstance(value, Mapping):
        return {hide(str(name)): _redacted_field(str(name), value[name], value, hide) for name in value}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(item, hide) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return hide(str(value))


def _redacted_field(name: str, content: Any, owner: Mapping[Any, Any], hide: Callable[[str], str]) -> Any:
    """A field's content; where it is the `value` of a variable, the variable's name decides."""
    if name == "value":
        name = str(owner.get("name", ""))
    telling = isinstance(content, str) and content.lower() not in _HARMLESS_VALUES
    if telling and name not in _HARMLESS_FIELDS and _SECRET_NAME.search(name):
        return REDACTED
    return _redacted(content, hide)
