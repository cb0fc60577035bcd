"""The page `docs/settings.md`: `python -m tests.settings_page > docs/settings.md` writes it."""

from __future__ import annotations

from itertools import groupby

from chalicelib.settings import SETTINGS, Setting

_INTRODUCTION = """\
<!-- Made from chalicelib/settings_table.py by `python -m tests.settings_page > docs/settings.md`. -->

# Settings

An argument of an agent's constructor beats an option of `prefect-agent`, which beats the environment, which beats
Prefect 1's own `~/.prefect/config.toml` (`PREFECT__USER_CONFIG_PATH` names another file), which beats the default. That
file is not read where work pools are served. The Lambda functions read the environment only.

Names that users of Prefect know are Prefect's own; ours begin with `AGENT_`, and an unknown `AGENT_` name is an error
that says the nearest one. Where an agent serves work pools, Prefect 3's own names stand in place of three of Prefect
1's; the table has both. An empty value counts as not given. **Secret** marks what appears in no error, log or preview.

The API key (or token) is best given as the ARN of the Secrets Manager secret or SSM parameter that holds it: then ECS
itself hands it to the flow runs, by the execution role, and it stands in no task and no log. If both a key and a token
are given in the same place, the key is used (with work pools that is an error); a token on the command line sets aside
a key in the environment.
"""
_RUN = """
## In a flow run's own env

Of Prefect 1 the `env` of its run config; of Prefect 3 the job variable `env`, of the run or else of its deployment.

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
    names = f"`{setting.env}`" + (f", for work pools `{setting.env3}`" if setting.env3 else "")
    options = ", ".join(f"`{flag}`" for flag in setting.flags)
    meaning = setting.help + (" **Secret**" if setting.secret else "")
    value = str(setting.default).lower() if isinstance(setting.default, bool) else setting.default
    default = "none" if value is None else f"`{value}`"
    return f"| {names} | {options} | {meaning} | {setting.default_text or default} |\n"


if __name__ == "__main__":
    print(settings_page(), end="")
