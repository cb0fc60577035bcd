"""What a tick would launch, as JSON that may be shown: whole requests without their secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

from chalicelib.builders.job_placeholders import BLOCK_ID, BLOCKS
from chalicelib.flow_runs import FlowRun
from chalicelib.outcomes import Build
from chalicelib.settings import Settings

REDACTED = "***"

_SECRET_NAME = re.compile(
    r"passw|passphrase|pwd|secret|token|credential|dsn|connection.?string|(api|access|private|account).?key"
    r"|(?<![a-z])(auth|key|pat)(?![a-z])",
    re.IGNORECASE,
)
# Names of ECS's and Kubernetes' own fields that sound secret and are not: they hold names and references.
_HARMLESS_FIELDS = {"key", "clientToken", "credentialsParameter", "secretName", "secretKeyRef", "secretRef"}
_SHORTEST_SECRET = 4
"""Of a block all texts of this length are hidden, wherever they stand: which of them are secret is not known."""

_URL_WITH_PASSWORD = re.compile(r"(://[^/@\s:]*):[^/@\s]+@")


def render_previews(builds: Sequence[Build], settings: Settings) -> str:
    """One JSON document, a list with an object for each flow run: its launch request, or why there is none.

    Hidden are the agent's key, what `--env` gave, what stands in the blocks of a work pool's run, the passwords of
    URLs, and whatever has a name that sounds secret.
    """
    return json.dumps([_mask(build, settings).redact(_shown(build)) for build in builds], indent=2)


def _shown(build: Build) -> dict[str, Any]:
    outcome = {"problem": build.refusal.text} if build.refusal else {"launch": build.request}
    run = build.run
    return {"flow_run_id": run.id, "name": run.name, "start_time": run.start_time.isoformat(), **outcome}


@dataclass(frozen=True)
class _Mask:
    """What is hidden in one preview: these texts, the longest first, and these values of variables."""

    texts: Sequence[str]
    variables: Mapping[str, str]

    def redact(self, value: Any, name: str = "") -> Any:
        """A copy of `value` that JSON can say; `name` is that of the field or variable that it stands in."""
        if is_dataclass(value):
            # The flow run that a request is made from is no part of it.
            value = {key: content for key, content in vars(value).items() if not isinstance(content, FlowRun)}
        if isinstance(value, Mapping):
            # Where a field is the `value` of a variable, the variable's name decides.
            names = {key: str(value.get("name", "")) if key == "value" else str(key) for key in value}
            return {self.hide(str(key)): self.redact(value[key], names[key]) for key in value}
        if isinstance(value, list | tuple):
            return [self.redact(item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        text = str(value)
        says_nothing = name in _HARMLESS_FIELDS or text.lower() in ("", "true", "false")
        is_secret = _SECRET_NAME.search(name) and not says_nothing
        return REDACTED if is_secret or self.variables.get(name) == text else self.hide(text)

    def hide(self, text: str) -> str:
        """The text without these texts and without the passwords of URLs."""
        for secret in self.texts:
            text = text.replace(secret, REDACTED)
        return _URL_WITH_PASSWORD.sub(rf"\1:{REDACTED}@", text)


def _mask(build: Build, settings: Settings) -> _Mask:
    references = build.run.job.references if build.run.job else {}
    blocks = [data for name, data in references.items() if name.startswith((BLOCKS, BLOCK_ID))]
    texts = {text for text in _texts(blocks) if len(text) >= _SHORTEST_SECRET}
    own = _texts([settings.plain_api_key or settings.plain_auth_token])
    return _Mask(sorted(texts.union(own), key=len, reverse=True), settings.env_vars)


def _texts(value: Any) -> Iterator[str]:
    """Every text and number in a document, as a text."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
