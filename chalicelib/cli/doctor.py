"""`prefect-agent doctor`: everything that has to be right for this agent to serve flow runs, looked at."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import chain

from chalicelib.bootstrap import build_credential
from chalicelib.cli.doctor_aws import AwsAccount, check_aws, check_stage
from chalicelib.cli.doctor_kubernetes import check_kubernetes
from chalicelib.cli.doctor_prefect1 import check_prefect1
from chalicelib.cli.doctor_prefect3 import Served, check_prefect3
from chalicelib.cli.findings import Found, either, examine, not_checked, ok, tell, warn, wrong
from chalicelib.clock import SystemClock
from chalicelib.credentials import Credential
from chalicelib.flow_runs import Document
from chalicelib.platforms import build_launcher
from chalicelib.settings import Settings


def run_doctor(settings: Settings) -> int:
    """Print a line for each finding; 1 if anything is wrong, else 0. Nothing is changed, registered or launched."""
    served: Served = [] if settings.work_pools else [(settings.platform, {})]
    with closing(AwsAccount()) as account:
        credential = build_credential(settings, account)
        troubles = list(examine("API key", lambda: (credential.value(), ())[1]))
        if troubles:
            troubles.append(not_checked("Prefect API: needs the API key"))
        platforms = _check_platforms(settings, credential, account, served)
        findings = chain(troubles or _check_prefect(settings, credential, served), platforms)
        return tell(findings, None if troubles else credential.value())


def _check_prefect(settings: Settings, credential: Credential, served: Served) -> Found:
    if settings.name == "agent":
        yield warn("Name: it is the default, agent; two agents of one name mix up their claims: give --name")
    first, third = partial(check_prefect1, settings, credential), partial(check_prefect3, settings, credential, served)
    yield from examine("Prefect API", third if settings.work_pools else first)


def _check_platforms(settings: Settings, credential: Credential, account: AwsAccount, served: Served) -> Found:
    for kind, configuration in served:
        check = partial(_check_platform, settings, credential, account, kind, configuration)
        yield from examine("AWS" if kind == "ecs" else kind.capitalize(), check, unknown=wrong)
    yield from check_stage(settings, account)


def _check_platform(
    settings: Settings, credential: Credential, account: AwsAccount, kind: str, configuration: Document
) -> Found:
    if kind == "ecs":
        yield from check_aws(settings, account, configuration)
    elif kind == "kubernetes":
        place = configuration.get("namespace") or settings.namespace
        yield from check_kubernetes(replace(settings, namespace=place), account)
    elif kind == "docker":
        alive = build_launcher(settings, credential, account, SystemClock(), True).list_alive()
        yield ok(f"Docker: the daemon answers, {len(alive)} containers of this agent run")
    else:
        from chalicelib.launchers.local import search_path

        where = shutil.which("prefect", path=settings.env_vars.get("PATH") or search_path())
        bad = "Prefect: no flow can run here: install prefect where PATH leads to it"
        yield either(where, f"Prefect: {where}", bad)
