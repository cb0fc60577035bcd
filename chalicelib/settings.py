"""The settings of an agent: the only module that is handed the environment.

An option beats the environment, which beats the default. Each of these is a layer; a layer that is put between two
others takes its place in that order. Every problem is found and raised at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chalicelib.errors import SettingsError
from chalicelib.setting_parsers import is_secret_reference
from chalicelib.settings_table import API_URLS, SETTINGS, Setting

__all__ = ["SETTINGS", "Given", "Layer", "Setting", "Settings", "did_you_mean", "load_settings", "settle"]

_OUR_PREFIX = "AGENT_"
_CREDENTIALS = ("api_key", "auth_token")


@dataclass(frozen=True)
class Settings:
    """What an agent was told; `SETTINGS` says what each field means. Make one with `load_settings`."""

    api_url: str
    backend: str
    api_key: str | None = field(repr=False)
    auth_token: str | None = field(repr=False)
    tenant_id: str | None
    name: str
    labels: tuple[str, ...]
    max_polls: int | None
    log_level: str
    env_vars: Mapping[str, str] = field(repr=False)
    send_flow_run_logs: bool
    flow_run_log_level: str
    cluster: str | None
    allowed_clusters: tuple[str, ...]
    launch_type: str | None
    task_role_arn: str | None
    execution_role_arn: str | None
    task_definition_path: str | None
    run_task_kwargs_path: str | None
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    assign_public_ip: bool
    template_paths: tuple[str, ...]
    allow_plain_api_key: bool
    allow_execute_command: bool
    launches_per_second: float | None
    cadence_seconds: int
    wakeup_queue_url: str | None
    defer_deadline_seconds: int
    poll_age_limit_seconds: int
    backlog_age_limit_seconds: int

    @property
    def secret_reference(self) -> str | None:
        """The ARN of what holds the key or token in use; None when it is given as it is, or not at all."""
        credential = self.api_key or self.auth_token
        return credential if credential and is_secret_reference(credential) else None

    @property
    def plain_api_key(self) -> str | None:
        """The API key itself, where it was given as it is."""
        return self.api_key if self.api_key and not is_secret_reference(self.api_key) else None

    @property
    def plain_auth_token(self) -> str | None:
        """The RUNNER token itself, where it was given as it is and no API key takes its place."""
        token = None if self.api_key else self.auth_token
        return token if token and not is_secret_reference(token) else None


@dataclass(frozen=True)
class Given:
    """A value as somebody gave it, and where, in the words of whoever has to change it."""

    value: Any
    where: str


Layer = Mapping[str, Given]
"""What one place says, by the field of the setting."""


def load_settings(environment: Mapping[str, str], flags: Mapping[str, Any] | None = None) -> Settings:
    """The settings from the environment and from `flags`: values by field, those of the command line or typed ones.

    An empty text or list, or None, counts as not given. Raises SettingsError with every problem, a line for each.
    """
    layers = [_flag_layer(flags or {}), _environment_layer(environment)]
    return settle(layers, [*_unknown_flags(flags or {}), *_unknown_names(environment)])


def settle(layers: Sequence[Layer], problems: Sequence[str] = ()) -> Settings:
    """The settings that `layers` make, the strongest first, on top of the defaults.

    `problems` are those that were found on the way here; raises SettingsError when there are any in the end.
    """
    given = _strongest(layers)
    values = {setting.field: setting.default for setting in SETTINGS}
    found = [*problems, *_contradictions(given), *_in_one_place(layers)]
    for setting in SETTINGS:
        if setting.field not in given:
            continue
        try:
            values[setting.field] = setting.parse(given[setting.field].value)
        except ValueError as error:
            found.append(f"{given[setting.field].where}: {error}")
    if found:
        raise SettingsError(found)
    return Settings(**_completed(values))


def _flag_layer(flags: Mapping[str, Any]) -> Layer:
    names = {setting.field: setting.flags[0] if setting.flags else setting.field for setting in SETTINGS}
    return {name: Given(value, names.get(name, name)) for name, value in flags.items() if not _is_blank(value)}


def _environment_layer(environment: Mapping[str, str]) -> Layer:
    texts = ((setting, environment.get(setting.env, "").strip()) for setting in SETTINGS)
    return {setting.field: Given(value, setting.env) for setting, value in texts if value}


def _is_blank(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, Sequence | Mapping) and not value)


def _strongest(layers: Sequence[Layer]) -> dict[str, Given]:
    """The strongest value of each setting. Key and token are one: who gives either sets aside both from below."""
    given: dict[str, Given] = {}
    for layer in reversed(layers):
        if any(name in layer for name in _CREDENTIALS):
            given = {name: value for name, value in given.items() if name not in _CREDENTIALS}
        given.update(layer)
    return given


def _unknown_flags(flags: Mapping[str, Any]) -> Iterator[str]:
    known = [setting.field for setting in SETTINGS]
    return (f"{name}: no such setting; {did_you_mean(name, known)}" for name in flags if name not in known)


def _unknown_names(environment: Mapping[str, str]) -> Iterator[str]:
    known = [setting.env for setting in SETTINGS]
    for name in sorted(environment):
        if name.startswith(_OUR_PREFIX) and name not in known:
            yield f"{name}: no such setting; {did_you_mean(name, known)}"


def did_you_mean(name: str, known: Sequence[str], otherwise: str = "docs/settings.md lists them all") -> str:
    """The end of a complaint about an unknown name: a question with the nearest of `known`, or `otherwise`."""
    from difflib import get_close_matches

    nearest = get_close_matches(name, known, n=1)
    return f"did you mean {nearest[0]}?" if nearest else otherwise


def _contradictions(given: Layer) -> Iterator[str]:
    if "security_groups" in given and "subnets" not in given:
        yield f"{given['security_groups'].where}: needs subnets; set AGENT_SUBNETS too"
    backend = given.get("backend")
    if backend and str(backend.value).lower() == "cloud" and not any(name in given for name in _CREDENTIALS):
        yield f"{backend.where}: Prefect Cloud needs an API key; set PREFECT__CLOUD__API_KEY"


def _in_one_place(layers: Sequence[Layer]) -> Iterator[str]:
    strongest = layers[0] if layers else {}
    if all(name in strongest for name in _CREDENTIALS):
        key, token = (strongest[name].where for name in _CREDENTIALS)
        yield f"{token}: contradicts {key}; give one of them"


def _completed(values: dict[str, Any]) -> dict[str, Any]:
    """The values with the defaults that hang on other values."""
    backend = values["backend"] or ("cloud" if any(values[name] for name in _CREDENTIALS) else "server")
    return {**values, "backend": backend, "api_url": values["api_url"] or API_URLS[backend]}
