"""Every setting, once: its names, its form, its default and what it means.

The fields of `Settings` are the table that the loader, the options of the command line and `docs/settings.md` are
made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

from chalicelib import setting_parsers as form

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
DEFAULT_SCHEDULE = "rate(1 minute)"
API_URLS = {"server": "http://localhost:4200", "cloud": "https://api.prefect.io", "3": "http://127.0.0.1:4200/api"}
"""Where the API of each backend is when nobody says so, and that of Prefect 3."""


@dataclass(frozen=True)
class Setting:
    """One row: `field` names it in `Settings`, `env` in the environment, `flags` on the command line (none: no option).

    `env3` is its name in the environment where an agent serves work pools, if Prefect 3 has one of its own.

    The option of a boolean is a switch that says the opposite of the default; that of a list or mapping may be given
    several times. `default_text` says the default in words where the value alone does not. `secret` values appear in
    no output.
    """

    topic: str
    env: str
    parse: form.Parser
    help: str
    flags: tuple[str, ...] = ()
    env3: str = ""
    default: Any = None
    default_text: str = ""
    secret: bool = False
    field: str = ""


def _row(topic: str, env: str, parse: form.Parser, meaning: str, *flags: str, **more: Any) -> Any:
    setting = Setting(topic, env, parse, meaning, flags, **more)
    return field(repr=not setting.secret, metadata={"setting": setting})


_TOPICS = ("Prefect", "Flow runs", "Platform", "ECS", "Kubernetes", "Docker", "Local", "Time")
_prefect, _flow_run, _platform, _ecs, _kubernetes, _docker, _local, _time = (partial(_row, topic) for topic in _TOPICS)

_text = form.matching(".+", "a text")
_uuid = form.matching(r"(?i)[\da-f-]{36}", "a UUID such as 6e3ad6c1-55a2-4a16-8e1a-3c1b6f0c3b52")
_label = form.matching(r"(?=.*\S)[^,]+", "a label: a text without a comma; give each label by itself")
_cluster = form.matching(r"[\w-]+|arn:[\w-]+:ecs:[\w-]+:\d+:cluster/[\w-]+", "a cluster's name or ARN")
_role = form.matching(r"arn:[\w-]+:iam::\d+:role/\S+", "a role's ARN: arn:aws:iam::<account>:role/<name>")
_namespace = form.matching("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "a namespace: at most 63 of a-z, 0-9 and `-`")
_OBJECT_NAME = "[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
_object_name = form.matching(_OBJECT_NAME, "a name that Kubernetes takes: a-z, 0-9, `-` and `.`")
_secret_key = form.matching(_OBJECT_NAME + "/[A-Za-z0-9._-]{1,253}", "a Secret and its key, such as prefect/api-key")
_eks_cluster = form.matching(r"[A-Za-z0-9][\w-]{0,99}", "an EKS cluster's name")
_agent_address = form.matching(
    r"(?i)http://([\w.-]+|\[[\da-f:.]+\])?:\d{1,5}/?", "an address with a port such as http://localhost:8080"
)
_docker_url = form.matching("(unix|tcp|https?|ssh|npipe)://.+", "a URL such as unix:///var/run/docker.sock")
_volume = form.matching("[^:]+(:[^:]+(:[A-Za-z,]+)?)?", "a volume: /path, /here:/there or name:/there:ro")
_network = form.matching(r"[\w.-]+", "a network's name")
_subnet = form.matching(r"subnet-\w+", "a subnet such as subnet-0a1b2c3d4e5f60718")
_security_group = form.matching(r"sg-\w+", "a security group such as sg-0a1b2c3d4e5f60718")
# Nothing with `.` or `..` in it. Without its last slash `s3://bucket/team` would allow `s3://bucket/team-of-others/`.
_template_path = form.matching(
    r"(?!.*/\.\.?(/|\Z))((/[^/\0]+)+/?|s3://[a-z0-9][a-z0-9.-]+/([^/\0]+/)*)",
    "an absolute directory or s3://bucket/prefix/ with a last slash",
)


# A table is read by its rows; one argument a line would make it four times as long.
# fmt: off
@dataclass(frozen=True)
class Settings:
    """What an agent was told. Make one with `load_settings`."""

    api_url: str = _prefect("PREFECT__CLOUD__API", form.url, "URL of the Prefect API", "--api", "-a",
        env3="PREFECT_API_URL", default_text=f"`{API_URLS['server']}`, for the backend cloud `{API_URLS['cloud']}`, "
        f"for work pools `{API_URLS['3']}`")
    work_pools: tuple[str, ...] = _prefect("AGENT_WORK_POOLS", form.list_of(_text),
        "work pool of Prefect 3 to serve, repeatable; in the environment comma separated. Without any it is Prefect 1",
        "--work-pool", "--pool", default=(), default_text="none")
    work_queues: tuple[str, ...] = _prefect("AGENT_WORK_QUEUES", form.list_of(_text),
        "work queue of these pools to serve, repeatable; in the environment comma separated",
        "--work-queue", default=(), default_text="all")
    backend: str = _prefect("PREFECT__BACKEND", form.one_of("server", "cloud"),
        "server or cloud: which kind of API this is", "--backend",
        default_text="`cloud` with a key or token, else `server`")
    api_key: str | None = _prefect("PREFECT__CLOUD__API_KEY", form.secret,
        "API key; better the ARN of the secret (:json-key:stage:version may follow) or SSM parameter that holds it",
        "--key", "-k", env3="PREFECT_API_KEY", secret=True)
    auth_token: str | None = _prefect("PREFECT__CLOUD__AGENT__AUTH_TOKEN", form.secret,
        "RUNNER token, used only without an API key, for work pools user:password of Basic auth; an ARN does as well",
        "--token", "-t", env3="PREFECT_API_AUTH_STRING", secret=True)
    tenant_id: str | None = _prefect("PREFECT__CLOUD__TENANT_ID", _uuid, "id of the tenant", "--tenant-id",
        default_text="the key's tenant; on Prefect Server the first one")
    name: str = _prefect("PREFECT__CLOUD__AGENT__NAME", _text,
        "name of this agent, by which its claims are known", "--name", "-n", default="agent")
    labels: tuple[str, ...] = _prefect("PREFECT__CLOUD__AGENT__LABELS",
        form.list_of(_label, """a list of labels such as '["dev", "staging"]'""", form.literal),
        """label of the flow runs to serve, repeatable; in the environment a list: '["dev", "staging"]'""",
        "--label", "-l", default=(), default_text="none: only flow runs without labels")
    max_polls: int | None = _prefect("PREFECT__CLOUD__AGENT__MAX_POLLS", form.number(int),
        "end after this many polls (`start` only)", "--max-polls", default_text="no limit")
    log_level: str = _prefect("PREFECT__CLOUD__AGENT__LEVEL", form.one_of(*LOG_LEVELS),
        f"what this agent logs: {', '.join(LOG_LEVELS)}", "--log-level", default="INFO")
    agent_address: str | None = _prefect("PREFECT__CLOUD__AGENT__AGENT_ADDRESS", _agent_address,
        "where `start` serves /api/health and /api/poke: http://localhost:8080; http://:8080 is all addresses",
        "--agent-address", default_text="nowhere")

    env_vars: Mapping[str, str] = _flow_run("PREFECT__CLOUD__AGENT__ENV_VARS", form.env_vars,
        """variable NAME=VALUE of all flow runs, repeatable; in the environment an object: '{"REGION": "eu-west-1"}'""",
        "--env", "-e", default={}, default_text="none", secret=True)
    send_flow_run_logs: bool = _flow_run("PREFECT__CLOUD__SEND_FLOW_RUN_LOGS", form.yes_or_no,
        "whether flow runs send their logs to Prefect; the option says no", "--no-cloud-logs", default=True)
    flow_run_log_level: str = _flow_run("PREFECT__LOGGING__LEVEL", form.one_of("NOTSET", *LOG_LEVELS),
        "what flow runs log", default="INFO")

    platform: str = _platform("AGENT_PLATFORM", form.one_of("ecs", "kubernetes", "docker", "local"),
        "ecs, kubernetes, docker or local: what flow runs are started on; a command names it itself", default="ecs")
    template_paths: tuple[str, ...] = _platform("AGENT_TEMPLATE_PATHS", form.list_of(_template_path),
        "where a flow run may name a template: absolute directories and s3://bucket/prefix/, comma separated",
        default=(), default_text="nowhere")
    allow_plain_api_key: bool = _platform("AGENT_ALLOW_PLAIN_API_KEY", form.yes_or_no,
        "whether a task with a definition of the flow run's own, or a Job without AGENT_API_KEY_SECRET, may get the "
        "API key as plain text", default=False)
    launches_per_second: float | None = _platform("AGENT_LAUNCHES_PER_SECOND", form.number(float),
        "how fast tasks or Jobs are started at most; 0 is no limit but the platform's",
        default_text="20 on Fargate and Kubernetes, 40 on EC2")

    default_image: str = _platform("AGENT_DEFAULT_IMAGE", _text,
        "image of a work pool's runs that name none; Prefect 1 chooses it by the flow's version",
        default="prefecthq/prefect:3-latest")

    cluster: str | None = _ecs("AGENT_CLUSTER", _cluster, "cluster that flow runs are started on", "--cluster",
        default_text="the one of the RunTask arguments, else `default`")
    allowed_clusters: tuple[str, ...] = _ecs("AGENT_CLUSTERS", form.list_of(_cluster),
        "further clusters that a flow run may name, comma separated", default=(), default_text="none")
    launch_type: str | None = _ecs("AGENT_LAUNCH_TYPE", form.one_of("FARGATE", "EC2"), "FARGATE or EC2",
        "--launch-type", default_text="`FARGATE`, unless the RunTask arguments name capacity providers")
    task_role_arn: str | None = _ecs("AGENT_TASK_ROLE_ARN", _role,
        "role of the flow run's code, where the flow run names none", "--task-role-arn")
    execution_role_arn: str | None = _ecs("AGENT_EXECUTION_ROLE_ARN", _role,
        "role by which ECS pulls the image and reads secrets, where the flow run names none", "--execution-role-arn")
    task_definition_path: str | None = _ecs("AGENT_TASK_DEFINITION", _text,
        "YAML file of the task definition to start from", "--task-definition", default_text="a built-in one")
    run_task_kwargs_path: str | None = _ecs("AGENT_RUN_TASK_KWARGS", _text, "YAML file of further RunTask arguments",
        "--run-task-kwargs")
    subnets: tuple[str, ...] = _ecs("AGENT_SUBNETS", form.list_of(_subnet), "subnets for the tasks, comma separated",
        default=(), default_text="those of the default VPC")
    security_groups: tuple[str, ...] = _ecs("AGENT_SECURITY_GROUPS", form.list_of(_security_group),
        "security groups for the tasks, comma separated; needs AGENT_SUBNETS", default=(), default_text="the VPC's own")
    assign_public_ip: bool = _ecs("AGENT_ASSIGN_PUBLIC_IP", form.yes_or_no,
        "whether a task on Fargate gets a public address", default=True)
    allow_execute_command: bool = _ecs("AGENT_ALLOW_EXECUTE_COMMAND", form.yes_or_no,
        "whether a flow run may ask for ECS Exec", default=False)

    eks_cluster: str | None = _kubernetes("AGENT_EKS_CLUSTER", _eks_cluster,
        "EKS cluster to sign in to with the AWS credentials of this process", "--eks-cluster",
        default_text="the one of the kubeconfig")
    kubeconfig_path: str | None = _kubernetes("AGENT_KUBECONFIG", _text, "kubeconfig file to sign in with",
        "--kubeconfig", default_text="the pod's service account, else `$KUBECONFIG`, else `~/.kube/config`")
    kubeconfig_context: str | None = _kubernetes("AGENT_KUBECONFIG_CONTEXT", _text, "context of the kubeconfig to use",
        "--context", default_text="its current one")
    namespace: str = _kubernetes("AGENT_KUBERNETES_NAMESPACE", _namespace,
        "namespace that flow runs are started in", "--namespace", default="default")
    allowed_namespaces: tuple[str, ...] = _kubernetes("AGENT_NAMESPACES", form.list_of(_namespace),
        "further namespaces that a work pool's run may name, comma separated", default=(), default_text="none")
    job_template_path: str | None = _kubernetes("AGENT_JOB_TEMPLATE", _text, "YAML file of the Job to start from",
        "--job-template", default_text="a built-in one")
    service_account_name: str | None = _kubernetes("AGENT_SERVICE_ACCOUNT_NAME", _object_name,
        "service account of the flow run's pod, where the flow run names none", "--service-account-name")
    image_pull_secrets: tuple[str, ...] | None = _kubernetes("AGENT_IMAGE_PULL_SECRETS", form.list_of(_object_name),
        "Secrets to pull images with, comma separated, where the flow run names none", "--image-pull-secrets")
    image_pull_policy: str | None = _kubernetes("AGENT_IMAGE_PULL_POLICY",
        form.one_of("Always", "IfNotPresent", "Never"), "Always, IfNotPresent or Never", "--image-pull-policy",
        default_text="as Kubernetes has it for the image")
    job_ttl_seconds: int = _kubernetes("AGENT_JOB_TTL_SECONDS", form.number(int, 300),
        "seconds that a finished Job is kept, so that it can be seen how it ended; a job template's own goes before",
        default=3600)
    api_key_secret: str | None = _kubernetes("AGENT_API_KEY_SECRET", _secret_key,
        "name/key of the Kubernetes Secret in the namespace that holds the flow runs' API key")

    docker_base_url: str = _docker("AGENT_DOCKER_BASE_URL", _docker_url, "URL of the Docker daemon",
        "--base-url", "-b", default="unix:///var/run/docker.sock")
    docker_pull: bool = _docker("AGENT_DOCKER_PULL", form.yes_or_no,
        "whether an image of a registry is pulled before each start; the option says no", "--no-pull", default=True)
    docker_volumes: tuple[str, ...] = _docker("AGENT_DOCKER_VOLUMES", form.list_of(_volume),
        "volume of all containers, /here:/there or name:/there:ro, repeatable; in the environment comma separated",
        "--volume", default=(), default_text="none")
    docker_networks: tuple[str, ...] = _docker("AGENT_DOCKER_NETWORKS", form.list_of(_network, in_order=True),
        "network that all containers join, repeatable; in the environment comma separated",
        "--network", default=(), default_text="Docker's own `bridge`")
    docker_timeout_seconds: int = _docker("AGENT_DOCKER_TIMEOUT_SECONDS", form.number(int, 1),
        "seconds to wait for an answer of the Docker daemon", "--docker-client-timeout", default=60)

    import_paths: tuple[str, ...] = _local("AGENT_IMPORT_PATHS", form.list_of(_text, in_order=True),
        "where flow runs look for modules besides, repeatable; in the environment comma separated",
        "--import-path", "-p", default=(), default_text="none")
    show_flow_logs: bool = _local("AGENT_SHOW_FLOW_LOGS", form.yes_or_no,
        "whether what flow runs print is shown on this agent's standard output",
        "--show-flow-logs", "-f", default=False)
    hostname_label: bool = _local("AGENT_HOSTNAME_LABEL", form.yes_or_no,
        "whether the name of this machine is one more label of the local agent; the option says no",
        "--no-hostname-label", default=True)

    lead_seconds: Mapping[str, float] = _time("AGENT_LEAD_SECONDS", form.by_name(form.number(float, 0, 240)),
        "seconds before its time that a work pool's run is launched, as its container waits by itself: a number, or "
        "pool=number, comma separated", default={}, default_text="`10`, as Prefect's workers")
    cadence_seconds: int = _time("AGENT_CADENCE_SECONDS", form.number(int, 1, 60),
        "seconds from one tick to the next, 1 to 60", default=10)
    linger_seconds: float = _time("AGENT_LINGER_SECONDS", form.number(float, 0, 8),
        "for how long, up to 8, a tick that has launched something asks again for what follows", default=0.0)
    schedule: str = _time("AGENT_SCHEDULE", form.matching(r"(rate|cron)\(.+\)", "rate(...) or cron(...)"),
        "when EventBridge ticks; read at deployment. Wake-ups fill one minute", default=DEFAULT_SCHEDULE)
    serves_api: bool = _time("AGENT_SERVES_API", form.yes_or_no,
        "whether there are /api/health and /api/poke; read at deployment. Without them nothing listens", default=True)
    wakeup_queue_url: str | None = _time("AGENT_WAKEUP_QUEUE_URL", form.url,
        "SQS queue of the wake-ups between two scheduled ticks", default_text="no wake-ups")
    events_queue_url: str | None = _time("AGENT_EVENTS_QUEUE_URL", form.url,
        "SQS queue of the events that say which tasks have stopped; read at deployment",
        default_text="the queue `prefect-agent-events`")
    cancel_grace_seconds: int = _time("AGENT_CANCEL_GRACE_SECONDS", form.number(int),
        "seconds in which the flow of a cancelled run may end by itself before it is stopped", default=60)
    strays: str = _time("AGENT_STRAYS", form.one_of("ignore", "report", "stop"),
        "ignore, report or stop: what to do about what still runs an hour after its flow run has finished",
        default="report")
    defer_deadline_seconds: int = _time("AGENT_DEFER_DEADLINE_SECONDS", form.number(int),
        "seconds for which a flow run that is refused for now is tried again before it is Failed", default=3600)
    poll_age_limit_seconds: int = _time("AGENT_HEALTH_POLL_AGE_SECONDS", form.number(int, 1),
        "seconds without a poll after which the agent is unhealthy", default=180)
    backlog_age_limit_seconds: int = _time("AGENT_HEALTH_BACKLOG_AGE_SECONDS", form.number(int, 1),
        "seconds a due flow run may wait before the agent is unhealthy", default=120)
    # fmt: on

    @property
    def secret_reference(self) -> str | None:
        """The ARN of what holds the key or token in use; None when it is given as it is, or not at all."""
        credential = self.api_key or self.auth_token or ""
        return credential if credential.startswith("arn:") else None

    @property
    def plain_api_key(self) -> str | None:
        """The API key itself, where it was given as it is."""
        return None if self.secret_reference else self.api_key

    @property
    def plain_auth_token(self) -> str | None:
        """The RUNNER token itself, where it was given as it is and no API key takes its place."""
        return None if self.api_key or self.secret_reference else self.auth_token


SETTINGS: tuple[Setting, ...] = tuple(replace(row.metadata["setting"], field=row.name) for row in fields(Settings))
"""Every setting, in the order of the documentation."""
