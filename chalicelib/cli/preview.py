"""What a tick would launch, as JSON that may be shown: whole requests without their secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

from chalicelib.outcomes import Build
from chalicelib.settings import Settings

REDACTED = "***"

_SECRET_NAME = re.compile(
    r"passw|passphrase|pwd|secret|token|credential|dsn|connection.?string|(api|access|private|account).?key"
    r"|(?<![a-z])(auth|key)(?![a-z])",
    re.IGNORECASE,
)
# Names of ECS's and Kubernetes' own fields that sound secret and are not: they hold names and references.
_HARMLESS_FIELDS = {"key", "clientToken", "credentialsParameter", "secretName", "secretKeyRef", "secretRef"}
_URL_WITH_PASSWORD = re.compile(r"(://[^/@\s:]*):[^/@\s]+@")


def render_previews(builds: Sequence[Build], settings: Settings) -> str:
    """One JSON document, a list with an object for each flow run: its launch request, or why there is none."""
    own_secret = settings.plain_api_key or settings.plain_auth_token
    return json.dumps([_redacted(_shown(build), own_secret) for build in builds], indent=2)


def _shown(build: Build) -> dict[str, Any]:
    outcome = {"problem": build.refusal.text} if build.refusal else {"launch": build.request}
    run = build.run
    return {"flow_run_id": run.id, "name": run.name, "start_time": run.start_time.isoformat(), **outcome}


def _redacted(value: Any, own_secret: str | None, name: str = "") -> Any:
    """A copy of `value` that JSON can say; `name` is that of the field or variable that it stands in."""
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        # Where a field is the `value` of a variable, the variable's name decides.
        names = {key: str(value.get("name", "")) if key == "value" else str(key) for key in value}
        return {_hide(str(key), own_secret): _redacted(value[key], own_secret, names[key]) for key in value}
    if isinstance(value, list | tuple):
        return [_redacted(item, own_secret) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    is_harmless = name in _HARMLESS_FIELDS or str(value).lower() in ("", "true", "false")
    return REDACTED if _SECRET_NAME.search(name) and not is_harmless else _hide(str(value), own_secret)


def _hide(text: str, own_secret: str | None) -> str:
    """The text without the agent's own secret and without the passwords of URLs."""
    return _URL_WITH_PASSWORD.sub(rf"\1:{REDACTED}@", text.replace(own_secret, REDACTED) if own_secret else text)
