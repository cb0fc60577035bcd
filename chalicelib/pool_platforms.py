"""The platforms of Prefect 3's work pools, built out of the settings, each when a pool of its type first occurs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from chalicelib.builders.work_pool_container import API_KEY, AUTH_STRING, WorkPoolContainer
from chalicelib.credentials import Credential
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.work_pools import KINDS, WorkPoolLauncher
from chalicelib.platform_parts import build_kubernetes_api, build_local_launcher, build_pace, network_arguments
from chalicelib.ports import Clock, Launcher
from chalicelib.settings import Settings

Maker = Callable[[Settings, WorkPoolContainer, AwsClients, Clock], Launcher]


def served_kinds(runs_processes: bool) -> dict[str, str]:
    """The types of work pools that can be served, each with the first word of its launches' texts."""
    return {pool_type: kind for pool_type, kind in KINDS.items() if runs_processes or pool_type != "process"}


def build_pool_launcher(
    settings: Settings,
    credential: Credential,
    clients: AwsClients,
    clock: Clock,
    present_types: Callable[[], Collection[str]],
    runs_processes: bool,
) -> WorkPoolLauncher:
    """The launcher of all work pools; `present_types` answers the types of those that are served now."""

    def make(maker: Maker, hands_secrets: bool) -> Launcher:
        return maker(settings, _container(settings, credential, hands_secrets), clients, clock)

    makers = {"ecs": (_make_ecs, True), "kubernetes": (_make_kubernetes, True), "process": (_make_process, False)}
    return WorkPoolLauncher(
        {kind: partial(make, *makers[kind]) for kind in served_kinds(runs_processes)}, present_types
    )


def _container(settings: Settings, credential: Credential, hands_secrets: bool) -> WorkPoolContainer:
    """What the containers are told; a platform that hands out no secrets is given the key itself."""
    is_key = not settings.auth_token
    reads = settings.secret_reference and (settings.allow_plain_api_key or not hands_secrets)
    plain = (credential.value() if reads else settings.plain_api_key or settings.plain_auth_token) or ""
    return WorkPoolContainer(
        api_url=settings.api_url,
        api_key=plain if is_key else "",
        auth_string="" if is_key else plain,
        secret_reference=settings.secret_reference if hands_secrets else None,
        secret_variable=API_KEY if is_key else AUTH_STRING,
        env_vars=settings.env_vars,
        agent_name=settings.name,
        image=settings.default_image,
        allow_plain_api_key=settings.allow_plain_api_key,
    )


def _make_ecs(settings: Settings, container: WorkPoolContainer, clients: AwsClients, clock: Clock) -> Launcher:
    from chalicelib.builders.ecs_defaults import PoolDefaults
    from chalicelib.launchers.ecs import EcsLauncher
    from chalicelib.launchers.ecs_work_pools import WorkPoolTasks

    defaults = PoolDefaults(
        container=container,
        cluster=settings.cluster or "",
        allowed_clusters=frozenset(settings.allowed_clusters),
        run_task_kwargs=network_arguments(settings),
        task_role_arn=settings.task_role_arn,
        execution_role_arn=settings.execution_role_arn,
        agent_name=settings.name,
    )
    pace = build_pace(settings, settings.launch_type or "FARGATE", clock)
    return EcsLauncher(clients, defaults, WorkPoolTasks(clients, defaults), pace, clock)


def _make_kubernetes(settings: Settings, container: WorkPoolContainer, clients: AwsClients, clock: Clock) -> Launcher:
    from chalicelib.builders.kubernetes_defaults import SecretKey
    from chalicelib.builders.work_pool_job import WorkPoolJobDefaults
    from chalicelib.launchers.kubernetes import KubernetesLauncher
    from chalicelib.launchers.kubernetes_kinds import work_pool_jobs

    secret = settings.api_key_secret
    defaults = WorkPoolJobDefaults(
        container=container,
        namespace=settings.namespace,
        allowed_namespaces=frozenset(settings.allowed_namespaces),
        ttl_seconds_after_finished=settings.job_ttl_seconds,
        api_key_secret=SecretKey(*secret.split("/")) if secret else None,
    )
    pace = build_pace(settings, "KUBERNETES", clock)
    return KubernetesLauncher(build_kubernetes_api(settings, clients, clock), work_pool_jobs(defaults), pace, clock)


def _make_process(settings: Settings, container: WorkPoolContainer, _clients: AwsClients, clock: Clock) -> Launcher:
    from chalicelib.builders.local_process import build_pool_process

    return build_local_launcher(partial(build_pool_process, container=container), settings, clock)
