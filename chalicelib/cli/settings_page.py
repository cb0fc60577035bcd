"""The page `docs/settings.md`, made from the table of settings.

`python -m chalicelib.cli.settings_page > docs/settings.md` writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chalicelib.settings_table import SETTINGS_BY_TOPIC, Setting

_INTRODUCTION = """\
<!-- Made from chalicelib/settings_table.py by `python -m chalicelib.cli.settings_page > docs/settings.md`. -->

# Settings

An option of `prefect-agent` beats the environment, which beats the default. The Lambda functions read the environment
only. Names that users of Prefect know are Prefect's own; ours begin with `AGENT_`, and an unknown `AGENT_` name is an
error. An empty value counts as not given. Every problem is told at once, a line for each.

The API key (or token) is best given as the ARN of the Secrets Manager secret or SSM parameter that holds it: then ECS
itself hands it to the flow runs, by the execution role, and it stands in no task and no log. If both a key and a token
are in the environment, the key is used; a token on the command line sets aside a key in the environment.

**Secret** marks values that never appear in an error, a log or a preview.
"""


def settings_page() -> str:
    """The whole page, in Markdown."""
    tables = (f"\n## {topic}\n\n{_table(settings)}" for topic, settings in SETTINGS_BY_TOPIC.items())
    return _INTRODUCTION + "".join(tables)


def _table(settings: Iterable[Setting]) -> str:
    lines = ["| Environment | Option | Meaning | Default |", "| --- | --- | --- | --- |", *_rows(settings)]
    return "\n".join(lines) + "\n"


def _rows(settings: Iterable[Setting]) -> Iterator[str]:
    for setting in settings:
        options = ", ".join(f"`{flag}`" for flag in setting.flags)
        meaning = setting.help + (" **Secret**" if setting.secret else "")
        yield f"| `{setting.env}` | {options} | {meaning} | {_default(setting)} |"


def _default(setting: Setting) -> str:
    if setting.default_text:
        return setting.default_text
    if isinstance(setting.default, bool):
        return f"`{str(setting.default).lower()}`"
    return "none" if setting.default is None else f"`{setting.default}`"


if __name__ == "__main__":
    print(settings_page(), end="")
