"""Every setting, once: its names, its form, its default and what it means.

The loader, the options of the command line and `docs/settings.md` are made from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib import setting_parsers as form
from chalicelib.setting_parsers import Parser

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
API_URLS = {"server": "http://localhost:4200", "cloud": "https://api.prefect.io"}
"""Where the API of each backend is when nobody says so."""

_cluster = form.matching(
    r"[A-Za-z0-9_-]{1,255}|arn:aws[a-z-]*:ecs:[a-z0-9-]+:\d{12}:cluster/[A-Za-z0-9_-]{1,255}",
    "a cluster's name or ARN",
)
_role = form.matching(
    r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", "a role's ARN: arn:aws:iam::<account>:role/<name>"
)
_subnet = form.matching(r"subnet-\w+", "a subnet such as subnet-0a1b2c3d4e5f60718")
_security_group = form.matching(r"sg-\w+", "a security group such as sg-0a1b2c3d4e5f60718")


@dataclass(frozen=True)
class Setting:
    """One row: `field` names it in `Settings`, `env` in the environment, `flags` on the command line (none: no option).

    `default` is the value when nobody gives one; `default_text` says it in words where the value alone does not.
    `flag_value` makes the option a switch that sets this value, `repeatable` lets it be given several times.
    `secret` values appear in no output. `platforms` lists where the setting means something; empty is everywhere.
    """

    field: str
    env: str
    parse: Parser
    help: str
    flags: tuple[str, ...] = ()
    default: Any = None
    default_text: str = ""
    metavar: str = ""
    repeatable: bool = False
    flag_value: Any = None
    secret: bool = False
    platforms: tuple[str, ...] = ()

    def is_for(self, platform: str) -> bool:
        """Whether the setting means something on `platform`."""
        return not self.platforms or platform in self.platforms


def _on_ecs(field: str, env: str, parse: Parser, meaning: str, **more: Any) -> Setting:
    return Setting(field, env, parse, meaning, platforms=("ecs",), **more)


# fmt: off
# A table is read by its rows; one argument a line would make it four times as long.
_PREFECT_SETTINGS = (
    Setting("api_url", "PREFECT__CLOUD__API", form.url, "URL of the Prefect API", flags=("--api", "-a"), metavar="URL",
            default_text=f"`{API_URLS['server']}`, for the backend cloud `{API_URLS['cloud']}`"),
    Setting("backend", "PREFECT__BACKEND", form.one_of("server", "cloud"), "server or cloud: which kind of API this is",
            default_text="`cloud` with a key or token, else `server`"),
    Setting("api_key", "PREFECT__CLOUD__API_KEY", form.secret,
            "API key; better the ARN of the Secrets Manager secret (with :json-key:stage:version where needed) or of "
            "the SSM parameter that holds it", flags=("--key", "-k"), metavar="KEY", secret=True),
    Setting("auth_token", "PREFECT__CLOUD__AGENT__AUTH_TOKEN", form.secret,
            "RUNNER token, older than API keys and used only without one; an ARN does as well",
            flags=("--token", "-t"), metavar="TOKEN", secret=True),
    Setting("tenant_id", "PREFECT__CLOUD__TENANT_ID", form.uuid, "id of the tenant", flags=("--tenant-id",),
            metavar="UUID", default_text="the key's tenant; on Prefect Server the first one"),
    Setting("name", "PREFECT__CLOUD__AGENT__NAME", form.text, "name of this agent, by which its claims are known",
            flags=("--name", "-n"), metavar="NAME", default="agent"),
    Setting("labels", "PREFECT__CLOUD__AGENT__LABELS", form.labels,
            "label of the flow runs to serve, as often as there are labels; in the environment a list: "
            """'["dev", "staging"]'""", flags=("--label", "-l"), metavar="LABEL", repeatable=True, default=(),
            default_text="none: only flow runs without labels"),
    Setting("max_polls", "PREFECT__CLOUD__AGENT__MAX_POLLS", form.whole_number(0),
            "end after this many polls (`start` only)", flags=("--max-polls",), metavar="N", default_text="no limit"),
    Setting("log_level", "PREFECT__CLOUD__AGENT__LEVEL", form.one_of(*LOG_LEVELS),
            f"what this agent logs: {', '.join(LOG_LEVELS)}", flags=("--log-level",), metavar="LEVEL", default="INFO"),
)

_FLOW_RUN_SETTINGS = (
    Setting("env_vars", "PREFECT__CLOUD__AGENT__ENV_VARS", form.env_vars,
            "variable for the environment of every flow run, as often as there are variables; in the environment an "
            """object: '{"REGION": "eu-west-1"}'""", flags=("--env", "-e"), metavar="NAME=VALUE", repeatable=True,
            default={}, default_text="none", secret=True),
    Setting("send_flow_run_logs", "PREFECT__CLOUD__SEND_FLOW_RUN_LOGS", form.yes_or_no,
            "whether flow runs send their logs to Prefect; the option says no", flags=("--no-cloud-logs",),
            flag_value=False, default=True),
    Setting("flow_run_log_level", "PREFECT__LOGGING__LEVEL", form.one_of("NOTSET", *LOG_LEVELS),
            "what flow runs log", default="INFO"),
)

_ECS_SETTINGS = (
    _on_ecs("cluster", "AGENT_CLUSTER", _cluster, "cluster that flow runs are started on", flags=("--cluster",),
            metavar="CLUSTER", default_text="the one of the RunTask arguments, else `default`"),
    _on_ecs("allowed_clusters", "AGENT_CLUSTERS", form.comma_list(_cluster),
            "further clusters that a flow run may name, comma separated", default=(), default_text="none"),
    _on_ecs("launch_type", "AGENT_LAUNCH_TYPE", form.one_of("FARGATE", "EC2"), "FARGATE or EC2",
            flags=("--launch-type",), metavar="TYPE",
            default_text="`FARGATE`, unless the RunTask arguments name capacity providers"),
    _on_ecs("task_role_arn", "AGENT_TASK_ROLE_ARN", _role,
            "role of the flow run's code, where the flow run names none", flags=("--task-role-arn",), metavar="ARN"),
    _on_ecs("execution_role_arn", "AGENT_EXECUTION_ROLE_ARN", _role,
            "role by which ECS pulls the image and reads secrets, where the flow run names none",
            flags=("--execution-role-arn",), metavar="ARN"),
    _on_ecs("task_definition_path", "AGENT_TASK_DEFINITION", form.text,
            "YAML file of the task definition to start from", flags=("--task-definition",), metavar="PATH",
            default_text="a built-in one"),
    _on_ecs("run_task_kwargs_path", "AGENT_RUN_TASK_KWARGS", form.text, "YAML file of further RunTask arguments",
            flags=("--run-task-kwargs",), metavar="PATH"),
    # 16 and 5 are what an awsvpc network configuration takes.
    _on_ecs("subnets", "AGENT_SUBNETS", form.comma_list(_subnet, most=16),
            "subnets for the tasks, comma separated", default=(), default_text="those of the default VPC"),
    _on_ecs("security_groups", "AGENT_SECURITY_GROUPS", form.comma_list(_security_group, most=5),
            "security groups for the tasks, comma separated; needs AGENT_SUBNETS", default=(),
            default_text="the VPC's default group"),
    _on_ecs("assign_public_ip", "AGENT_ASSIGN_PUBLIC_IP", form.yes_or_no,
            "whether a task on Fargate gets a public address", default=True),
    _on_ecs("template_paths", "AGENT_TEMPLATE_PATHS", form.comma_list(form.template_path),
            "where a flow run may name a template: absolute directories and s3://bucket/prefix/, comma separated",
            default=(), default_text="nowhere"),
    _on_ecs("allow_plain_api_key", "AGENT_ALLOW_PLAIN_API_KEY", form.yes_or_no,
            "whether a flow run with a task definition of its own may get the API key as plain text", default=False),
    _on_ecs("allow_execute_command", "AGENT_ALLOW_EXECUTE_COMMAND", form.yes_or_no,
            "whether a flow run may ask for ECS Exec", default=False),
    _on_ecs("launches_per_second", "AGENT_LAUNCHES_PER_SECOND", form.rate,
            "how fast tasks are started at most; 0 is no limit but the quota", default_text="20 on Fargate, 40 on EC2"),
)

_TIME_SETTINGS = (
    Setting("cadence_seconds", "AGENT_CADENCE_SECONDS", form.whole_number(1, 60),
            "seconds from one tick to the next, 1 to 60", default=10),
    Setting("wakeup_queue_url", "AGENT_WAKEUP_QUEUE_URL", form.url,
            "SQS queue of the wake-ups between two scheduled ticks", default_text="no wake-ups"),
    Setting("defer_deadline_seconds", "AGENT_DEFER_DEADLINE_SECONDS", form.whole_number(0),
            "seconds for which a flow run that is refused for now is tried again before it is Failed", default=3600),
    Setting("poll_age_limit_seconds", "AGENT_HEALTH_POLL_AGE_SECONDS", form.whole_number(1),
            "seconds without a poll after which the agent is unhealthy", default=180),
    Setting("backlog_age_limit_seconds", "AGENT_HEALTH_BACKLOG_AGE_SECONDS", form.whole_number(1),
            "seconds a due flow run may wait before the agent is unhealthy", default=120),
)
# fmt: on

SETTINGS_BY_TOPIC: Mapping[str, tuple[Setting, ...]] = {
    "Prefect": _PREFECT_SETTINGS,
    "Flow runs": _FLOW_RUN_SETTINGS,
    "ECS": _ECS_SETTINGS,
    "Time": _TIME_SETTINGS,
}
SETTINGS: tuple[Setting, ...] = tuple(setting for settings in SETTINGS_BY_TOPIC.values() for setting in settings)
"""Every setting, in the order of the documentation."""
