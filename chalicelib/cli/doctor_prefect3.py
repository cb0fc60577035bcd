"""What `doctor` looks at in a Prefect 3 API: the work pools that this agent serves. Nothing is polled or claimed."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

from chalicelib.bootstrap import build_prefect3
from chalicelib.builders.job_configuration import find_references, render_job_configuration
from chalicelib.cli.findings import Found, either, examine, ok, warn, wrong
from chalicelib.clock import SystemClock
from chalicelib.credentials import Credential
from chalicelib.flow_runs import Document, Flow, FlowRun, WorkPoolJob
from chalicelib.launchers.work_pools import KINDS
from chalicelib.prefect_api.prefect3_client import Prefect3Client
from chalicelib.prefect_api.prefect3_pools import reference_path
from chalicelib.settings import Settings

Served = list[tuple[str, Document]]
"""The types of the work pools that are there, each with the job configuration of a run that says nothing itself."""


def check_prefect3(settings: Settings, credential: Credential, served: Served) -> Found:
    """API, key and work pools, which are added to `served`. Raises PrefectError."""
    client = build_prefect3(settings, credential, SystemClock(), runs_processes=True).client
    client.transport.attempts = 2
    version = "3, Cloud" if ".prefect.cloud" in settings.api_url else str(client.find("/admin/version"))
    bad = f"Prefect API: {settings.api_url} is not Prefect 3: correct PREFECT_API_URL, which ends in /api"
    yield either(version[0] == "3", f"Prefect API: {settings.api_url} is Prefect {version}", bad)
    if version[0] != "3":
        return
    rows = client.filter_all("work_pools", {"work_pools": {"name": {"any_": list(settings.work_pools)}}})
    yield ok("API key: accepted, or none is asked for")
    for name in settings.work_pools:
        pool = next((row for row in rows if row["name"] == name), {})
        bad = f"Work pool {name}: not there: create it (prefect work-pool create), or correct --work-pool"
        yield either(pool, f"Work pool {name}: of type {pool.get('type')}", bad)
        if pool:
            yield from examine(f"Work pool {name}", partial(_check_pool, settings, name, pool, client))
            yield from examine(f"Work pool {name}", partial(_check_template, name, pool, client, served))


def _check_pool(settings: Settings, name: str, pool: Document, client: Prefect3Client) -> Found:
    if pool["type"] not in KINDS:
        bad = f"nobody here launches type {pool['type']}, only {', '.join(KINDS)}: choose another"
        yield wrong(f"Work pool {name}: {bad}")
    if pool["is_paused"]:
        yield warn(f"Work pool {name}: it is paused: prefect work-pool resume {name}")
    queues = {row["name"]: row["is_paused"] for row in client.filter_all(f"work_pools/{name}/queues", {})}
    for queue in settings.work_queues or sorted(queues):
        if queue not in queues:
            yield wrong(f"Work pool {name}: it has no queue {queue}: create it, or correct --work-queue")
        elif queues[queue]:
            yield warn(f"Work pool {name}: its queue {queue} is paused: prefect work-queue resume {queue} -p {name}")
    for row in client.filter_all(f"work_pools/{name}/workers", {}):
        if row["status"] == "ONLINE" and row["name"] != settings.name:
            yield ok(f"Work pool {name}: {row['name']} serves it too; each run goes to one of the two")


def _check_template(name: str, pool: Document, client: Prefect3Client, served: Served) -> Found:
    job, configuration = WorkPoolJob(pool, {}), {}
    asked = sorted(find_references(job))
    # Without what stands behind the `?` their secrets are not asked for.
    missing = [each for each in asked if client.find(reference_path(each)[0].partition("?")[0]) is None]
    if not asked:
        configuration = render_job_configuration(FlowRun("", "run", 0, datetime.now(UTC), Flow("", ""), job=job))
    bad = f"Work pool {name}: its template names {', '.join(missing)}, not there: create that, or change the template"
    yield either(not missing, f"Work pool {name}: its base job template can be filled in", bad)
    if pool["type"] in KINDS:
        served.append((pool["type"], configuration))
