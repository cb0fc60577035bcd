"""The settings of an agent: the only module that is handed the environment.

An option beats the environment, which beats the default. Each of these is a layer; a layer that is put between two
others takes its place in that order. Every problem is found and raised at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chalicelib.errors import SettingsError
from chalicelib.settings_table import API_URLS, SETTINGS, Setting, Settings

__all__ = ["SETTINGS", "Given", "Layer", "Setting", "Settings", "did_you_mean", "load_settings", "settle"]

_PREFECTS = "PREFECT__CLOUD__AGENT__"
_CREDENTIALS = ("api_key", "auth_token")
_NO_POOL = (
    "PREFECT_API_URL: is of Prefect 3, and no work pool is named: AGENT_WORK_POOLS (--work-pool); for Prefect 1 set "
    "PREFECT__CLOUD__API (--api)"
)


@dataclass(frozen=True)
class Given:
    """A value as somebody gave it, and where, in the words of whoever has to change it."""

    value: Any
    where: str

    @property
    def content(self) -> Any:
        """The value, without white space around a text; None when it is empty, which counts as not given."""
        value = self.value.strip() if isinstance(self.value, str) else self.value
        return None if value in ("", (), [], {}) else value


Layer = Mapping[str, Given]
"""What one place says, by the field of the setting."""


def load_settings(environment: Mapping[str, str], flags: Mapping[str, Any] | None = None, *below: Layer) -> Settings:
    """The settings from the environment and from `flags`: values by field, those of the command line or typed ones.

    The layers `below` are weaker than the environment; they speak of Prefect 1 and do not count for work pools. A flag
    may also be Given, with words of its own. An empty text or list, or None, counts as not given. Raises SettingsError
    with every problem, a line for each.
    """
    flags = flags or {}
    typed = {row.field: _typed(flags.get(row.field), row) for row in SETTINGS}
    serves_pools = typed["work_pools"].content or environment.get("AGENT_WORK_POOLS", "").strip()
    names = {row.field: (row.env3 or row.env) if serves_pools else row.env for row in SETTINGS}
    layers: list[Layer] = [typed, {field: Given(environment.get(name), name) for field, name in names.items()}]
    layers += () if serves_pools else below
    known = [row.env for row in SETTINGS]
    ours = sorted(name for name in environment if name.startswith("AGENT_") or _is_misspelt(name, known))
    problems = [*_unknown(flags, [row.field for row in SETTINGS]), *_unknown(ours, known)]
    is_other = environment.get("PREFECT_API_URL") and not any(_names_api(layer) for layer in layers)
    problems += [_NO_POOL] if is_other and not serves_pools else []
    return settle(layers, problems)


def _names_api(layer: Layer) -> bool:
    return any(name in layer and layer[name].content for name in ("api_url", "backend", *_CREDENTIALS))


def _typed(value: Any, row: Setting) -> Given:
    return value if isinstance(value, Given) else Given(value, (*row.flags, row.field)[0])


def settle(layers: Sequence[Layer], problems: Iterable[str] = ()) -> Settings:
    """The settings that `layers` make, the strongest first, on top of the defaults.

    `problems` are those that were found on the way here; raises SettingsError when there are any in the end.
    """
    given = _strongest(layers)
    values = {setting.field: setting.default for setting in SETTINGS}
    found = [*problems, *_contradictions(given)]
    for setting in SETTINGS:
        if setting.field in given:
            try:
                values[setting.field] = setting.parse(given[setting.field].content)
            except ValueError as error:
                found.append(f"{given[setting.field].where}: {error}")
    if found:
        raise SettingsError(found)
    if values["platform"] == "local" and values["hostname_label"] and not values["work_pools"]:
        values["labels"] = tuple(sorted({*values["labels"], _hostname()}))
    backend = values["backend"] or ("cloud" if any(values[name] for name in _CREDENTIALS) else "server")
    api_url = values["api_url"] or API_URLS["3" if values["work_pools"] else backend]
    return Settings(**{**values, "backend": backend, "api_url": api_url})


def _hostname() -> str:
    """The label of this machine, as Prefect's own local agent has it."""
    from socket import gethostbyname, gethostname

    name = gethostname()
    return gethostbyname(name) if name == "docker-desktop" else name


def _strongest(layers: Sequence[Layer]) -> Layer:
    """The strongest value of each setting. Key and token are one: who gives either sets aside both from below."""
    given: dict[str, Given] = {}
    for layer in reversed(layers):
        said = {name: value for name, value in layer.items() if value.content is not None}
        if any(name in said for name in _CREDENTIALS):
            given = {name: value for name, value in given.items() if name not in _CREDENTIALS}
        given.update(said)
    return given


def _unknown(names: Iterable[str], known: Sequence[str]) -> Iterator[str]:
    return (f"{name}: no such setting; {did_you_mean(name, known)}" for name in names if name not in known)


def _is_misspelt(name: str, known: Sequence[str]) -> bool:
    """Whether a name of Prefect's is nearly one of ours to read; its other names are none of our business."""
    from difflib import get_close_matches

    prefix = next((each for each in (_PREFECTS, "PREFECT__CLOUD__") if name.startswith(each)), "")
    endings = [each.removeprefix(prefix) for each in known if each.startswith(prefix)]
    return bool(prefix and get_close_matches(name.removeprefix(prefix), endings, n=1, cutoff=0.8))


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """The end of a complaint about an unknown name: a question with the nearest of `known`, or where all are listed."""
    from difflib import get_close_matches

    endings = {_ending(each): each for each in known}
    nearest = get_close_matches(_ending(name), endings, n=1)
    return f"did you mean {endings[nearest[0]]}?" if nearest else "docs/settings.md lists them all"


def _ending(name: str) -> str:
    """What is left of a variable's name when whose it is does not matter."""
    return name.removeprefix(_PREFECTS).removeprefix("AGENT_")


def _contradictions(given: Layer) -> Iterator[str]:
    if "security_groups" in given and "subnets" not in given:
        yield f"{given['security_groups'].where}: needs subnets; set AGENT_SUBNETS too"
    if "eks_cluster" in given and (file := given.get("kubeconfig_path") or given.get("kubeconfig_context")):
        yield f"{file.where}: an EKS cluster is signed in to without a kubeconfig; give this or AGENT_EKS_CLUSTER"
    if "work_pools" in given:
        yield from _contradictions_of_pools(given)
    elif "work_queues" in given:
        yield f"{given['work_queues'].where}: work queues belong to work pools; name these too (AGENT_WORK_POOLS)"
    backend = given.get("backend")
    if backend and str(backend.content).lower() == "cloud" and not any(name in given for name in _CREDENTIALS):
        yield f"{backend.where}: Prefect Cloud needs an API key; set PREFECT__CLOUD__API_KEY"


def _contradictions_of_pools(given: Layer) -> Iterator[str]:
    for name in ("labels", "tenant_id"):
        if name in given:
            yield f"{given[name].where}: belongs to Prefect 1; a work pool has work queues (AGENT_WORK_QUEUES) instead"
    if all(name in given for name in _CREDENTIALS):
        yield f"{given['auth_token'].where}: there is an API key as well ({given['api_key'].where}); give one of them"
