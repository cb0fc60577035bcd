"""The page `docs/settings.md`: `python -m tests.settings_page > docs/settings.md` writes it."""

from __future__ import annotations

from itertools import groupby

from chalicelib.settings import SETTINGS, Setting

_INTRODUCTION = """\
<!-- Made from chalicelib/settings_table.py by `python -m tests.settings_page > docs/settings.md`. -->

# Settings

An option of `prefect-agent` beats the environment, which beats the default. The Lambda functions read the environment
only. Names that users of Prefect know are Prefect's own; ours begin with `AGENT_`, and an unknown `AGENT_` name is an
error. An empty value counts as not given. **Secret** marks what appears in no error, log or preview.

The API key (or token) is best given as the ARN of the Secrets Manager secret or SSM parameter that holds it: then ECS
itself hands it to the flow runs, by the execution role, and it stands in no task and no log. If both a key and a token
are given in the same place, the key is used; a token on the command line sets aside a key in the environment.
"""
_RUN = """
## In a flow run's own env

| Variable | Meaning | Default |
| --- | --- | --- |
| `AGENT_RESUBMIT` | what is launched again by itself, at most 3 times: `never`; `start`, what could not start for a \
reason that passes; `running`, also a flow whose machine was taken away | `start` |
"""
_HEAD = "| Environment | Option | Meaning | Default |\n| --- | --- | --- | --- |\n"


def settings_page() -> str:
    """The whole page, in Markdown."""
    topics = groupby(SETTINGS, lambda setting: setting.topic)
    return (
        _INTRODUCTION
        + "".join(
            f"\n## {topic}\n\n{_HEAD}{''.join(_row(setting) for setting in settings)}" for topic, settings in topics
        )
        + _RUN
    )


def _row(setting: Setting) -> str:
    options = ", ".join(f"`{flag}`" for flag in setting.flags)
    meaning = setting.help + (" **Secret**" if setting.secret else "")
    value = str(setting.default).lower() if isinstance(setting.default, bool) else setting.default
    default = "none" if value is None else f"`{value}`"
    return f"| `{setting.env}` | {options} | {meaning} | {setting.default_text or default} |\n"


if __name__ == "__main__":
    print(settings_page(), end="")
