"""The two kinds of Jobs: those that run configs describe (Prefect 1) and those of work pools (Prefect 3)."""

from __future__ import annotations

from chalicelib.builders.kubernetes_defaults import KubernetesDefaults
from chalicelib.builders.kubernetes_job import FLOW_RUN_LABEL, KubernetesLaunch, build_job
from chalicelib.builders.run_configs import read_kubernetes_run
from chalicelib.builders.work_pool_container import RUN_LABEL
from chalicelib.builders.work_pool_job import WorkPoolJobDefaults, build_work_pool_job
from chalicelib.flow_runs import FlowRun
from chalicelib.launchers.kubernetes_jobs import JobKind
from chalicelib.launchers.templates import TemplateReader


def run_config_jobs(defaults: KubernetesDefaults, templates: TemplateReader) -> JobKind:
    """The Jobs of Prefect 1: all in the agent's namespace, and called `Job <name>`."""

    def build(run: FlowRun) -> KubernetesLaunch:
        asked = read_kubernetes_run(run)
        path, own = asked.job_template_path, asked.job_template or defaults.job_template
        job = build_job(run, asked, templates.read(path) if path else own, defaults)
        return KubernetesLaunch(job, defaults.namespace, asked.has_template)

    return JobKind(build, defaults.namespace, defaults.agent_name, FLOW_RUN_LABEL)


def work_pool_jobs(defaults: WorkPoolJobDefaults) -> JobKind:
    """The Jobs of Prefect 3: in the namespaces of their work pools, and called `Job <namespace>:<name>`."""
    return JobKind(
        lambda run: build_work_pool_job(run, defaults),
        defaults.namespace,
        defaults.container.agent_name,
        RUN_LABEL,
        has_namespaces=True,
        further_namespaces=defaults.allowed_namespaces,
    )
