"""Prefect 1's own configuration file, `~/.prefect/config.toml`, as a layer of settings below the environment."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from chalicelib.errors import SettingsError
from chalicelib.settings import SETTINGS, Given, Layer

PATH_VARIABLE, DEFAULT_PATH = "PREFECT__USER_CONFIG_PATH", "~/.prefect/config.toml"


def read_config_file(environment: Mapping[str, str], given: Collection[str] = ()) -> Layer:
    """What the file says of settings that have a name of Prefect's: `PREFECT__CLOUD__API` is `api` in `[cloud]`.

    `$NAME` and `${NAME}` in a text stand for variables of the environment. Without a file at the usual place nothing is
    said, nor where `given`, the fields that were typed, or the environment name work pools: these are Prefect 3's.
    Raises SettingsError when it cannot be read, or a file that PREFECT__USER_CONFIG_PATH names is not there.
    """
    if "work_pools" in given or environment.get("AGENT_WORK_POOLS", "").strip():
        return {}
    named = environment.get(PATH_VARIABLE, "").strip()
    path = Path(Template(named or DEFAULT_PATH).safe_substitute(environment)).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
        import tomllib  # a start without such a file need not wait for it

        document = tomllib.loads(text)
    except FileNotFoundError:
        if named:
            raise SettingsError([f"{PATH_VARIABLE}: there is no file {path}; correct the path or unset it"]) from None
        return {}
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read ({error.strerror}); make it readable, or name another"]) from None
    except ValueError:
        # Neither the text nor the parser's excerpt of it may be shown: it may be a key.
        raise SettingsError([f"{path}: is not valid TOML; correct it, or name another by {PATH_VARIABLE}"]) from None
    names = {row.field: row.env.lower().split("__")[1:] for row in SETTINGS if row.env.startswith("PREFECT__")}
    return {field: Given(_look_up(document, parts, environment), _place(path, parts)) for field, parts in names.items()}


def _look_up(document: Any, parts: Sequence[str], environment: Mapping[str, str]) -> Any:
    for part in parts:
        document = document.get(part) if isinstance(document, dict) else None
    return Template(document).safe_substitute(environment) if isinstance(document, str) else document


def _place(path: Path, parts: Sequence[str]) -> str:
    *sections, key = parts
    return f"{path} [{'.'.join(sections)}] {key}" if sections else f"{path} {key}"
