"""The Jobs that this agent builds, beside those that the real agent of Prefect 1.4.1 builds for the same flow runs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.builders.kubernetes_defaults import KubernetesDefaults
from chalicelib.builders.kubernetes_job import build_job, with_key
from chalicelib.builders.run_configs import read_kubernetes_run
from chalicelib.errors import AgentError
from chalicelib.flow_runs import Flow, FlowRun
from tests.oracle.ecs_cases import TENANT_ID, Json
from tests.oracle.generated import generated
from tests.oracle.kubernetes_cases import ALIKE, DIFFERENT, FLOW, REFUSED_HERE, REFUSED_THERE, Case, job, of_the_run
from tests.oracle.kubernetes_generated_cases import cases
from tests.oracle.kubernetes_schema import schema_problem
from tests.oracle.test_ecs_builder_oracle import python_with_prefect1

pytestmark = pytest.mark.oracle

GENERATED = 250
KEY = "bbbbbbbb-0000-4000-8000-00000000000f-3"
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "nowhere",
    "contexts": [{"name": "nowhere", "context": {"cluster": "nowhere", "user": "nobody"}}],
    "clusters": [{"name": "nowhere", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "nobody", "user": {}}],
}

LEFT_OUT = {
    "name": "ours is made of the launch key, so that a second launch with it meets the first",
    "identifier": "ours is made of the launch key, theirs is random",
    "annotations": "ours say the launch key and the agent",
    "backoffLimit": "ours is 0 where a template has none; Kubernetes would run a crashed flow of theirs again",
    "kind": "ours always says apiVersion and kind, theirs only if the template does; the API server knows them anyway",
    "order of env": "ours is sorted by name; on both sides what only the template has stands last",
}


def ask_prefect1(cases: Sequence[Case], home: Path) -> list[Json]:
    """The real agent's answers, all from one process that sees a home with nothing but a kubeconfig to nowhere."""
    (home / ".kube").mkdir(exist_ok=True)
    (home / ".kube" / "config").write_text(json.dumps(KUBECONFIG))
    lines = [
        json.dumps(
            {
                "settings": {"name": "oracle", **case.agent},
                "config": case.config(),
                "flow_run": case.flow_run(),
                "at_path": case.at_path,
            }
        )
        for case in cases
    ]
    done = subprocess.run(
        [python_with_prefect1(), str(Path(__file__).parent / "in_prefect1_environment" / "build_job_with_prefect1.py")],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=240,
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [_as_the_api_server_takes_it(json.loads(line)) for line in done.stdout.splitlines()]


def _as_the_api_server_takes_it(answer: Json) -> Json:
    if "refused" in answer:
        return answer
    manifest = {"apiVersion": "batch/v1", "kind": "Job", **answer["manifest"]}
    is_a_job = (manifest["apiVersion"], manifest["kind"]) == ("batch/v1", "Job")
    problem = schema_problem(manifest, strict=False) if is_a_job else ""
    return {"refused": f"Kubernetes: {problem}"} if problem else answer


def ask_ours(case: Case, **settings: Any) -> Json:
    """The Job that this agent would start, as the published schema takes it, or why it refuses."""
    defaults = replace(_defaults(case), **settings)
    run = _flow_run(case)
    try:
        kubernetes_run = read_kubernetes_run(run)
        template = case.at_path or kubernetes_run.job_template or defaults.job_template
        manifest = with_key(build_job(run, kubernetes_run, template, defaults), KEY)
    except AgentError as error:
        return {"refused": str(error)}
    assert schema_problem(manifest, strict=False) == ""
    return {"manifest": manifest}


def _flow_run(case: Case) -> FlowRun:
    document = case.flow_run()
    flow = document.pop("flow")
    if case.at_path is not None:
        document["run_config"] = {**document["run_config"], "job_template_path": "agent:///template"}
    return FlowRun(start_time=datetime(2026, 1, 1, tzinfo=UTC), flow=Flow(**flow), tenant_id=TENANT_ID, **document)


def _defaults(case: Case) -> KubernetesDefaults:
    agent = dict(case.agent)
    container = ContainerSettings(
        api_url=case.config()["cloud.api"],
        backend=case.config()["backend"],
        labels=tuple(agent.pop("labels", ())),
        env_vars=agent.pop("env_vars", {}),
        log_level=case.config()["logging.level"],
        send_logs=not agent.pop("no_cloud_logs", False),
        api_key=case.prefect.get("api_key", ""),
    )
    template = {"job_template": agent.pop("job_template_path")} if "job_template_path" in agent else {}
    secrets = tuple(agent.pop("image_pull_secrets", ()))
    return KubernetesDefaults(container, image_pull_secrets=secrets, agent_name="oracle", **template, **agent)


def compared(answer: Json) -> Json:
    """What must be the same: the manifest without what `LEFT_OUT` says."""
    if "refused" in answer:
        return {"refused": True}
    manifest: Json = {"apiVersion": "batch/v1", "kind": "Job", **json.loads(json.dumps(answer["manifest"]))}
    for described in (manifest, manifest["spec"]["template"]):
        metadata = described["metadata"]
        metadata["labels"].pop("prefect.io/identifier")
        own = metadata.pop("annotations", {})
        metadata["annotations"] = {name: own[name] for name in own if not name.startswith("prefect-agent/")}
    manifest["metadata"].pop("name")
    manifest["spec"]["backoffLimit"] = manifest["spec"].get("backoffLimit") or 0
    manifest["spec"]["template"]["spec"]["containers"][0]["env"].sort(key=lambda entry: entry["name"])
    return manifest


def assert_alike(cases: Sequence[Case], home: Path) -> None:
    """That both agents want the same in every case; tells all cases in which they do not."""
    found = []
    for case, theirs in zip(cases, ask_prefect1(cases, home), strict=True):
        ours = ask_ours(case)
        if compared(ours) != compared(theirs):
            found.append(f"{case}\n  prefect: {json.dumps(theirs)}\n  ours:    {json.dumps(ours)}")
    assert not found, "\n\n".join(found)


def test_the_table_of_run_configs_is_built_as_prefect_1_4_1_builds_it(tmp_path: Path) -> None:
    assert len(ALIKE) >= 90
    assert_alike(ALIKE, tmp_path)


def test_generated_run_configs_are_built_as_prefect_1_4_1_builds_them(tmp_path: Path) -> None:
    drawn = generated(cases(), GENERATED)
    built = [case for case in drawn if "refused" not in ask_ours(case)]
    assert GENERATED * 0.4 < len(built) < len(drawn), "too one-sided to prove much"
    assert_alike(drawn, tmp_path)


def test_the_listed_refusals_are_all_there_are_to_be_seen_and_are_real(tmp_path: Path) -> None:
    assert {case.difference for case in DIFFERENT} == REFUSED_HERE.keys() | REFUSED_THERE.keys()
    for case, theirs in zip(DIFFERENT, ask_prefect1(DIFFERENT, tmp_path), strict=True):
        refusing, starting = (theirs, ask_ours(case)) if case.difference in REFUSED_THERE else (ask_ours(case), theirs)
        assert "refused" in refusing, case
        assert "refused" not in starting, (case, starting)


def test_what_is_left_out_of_the_comparison_is_really_different(tmp_path: Path) -> None:
    case = Case("bare", {"type": "KubernetesRun", "job_template": {"spec": job(FLOW)["spec"]}})
    theirs, ours = ask_prefect1([case], tmp_path)[0]["manifest"], ask_ours(case)["manifest"]
    seen: dict[str, Callable[[Json], Any]] = {
        "name": lambda manifest: manifest["metadata"]["name"],
        "identifier": lambda manifest: manifest["metadata"]["labels"]["prefect.io/identifier"],
        "annotations": lambda manifest: manifest["metadata"].get("annotations"),
        "backoffLimit": lambda manifest: manifest["spec"].get("backoffLimit"),
        "kind": lambda manifest: (manifest.get("apiVersion"), manifest.get("kind")),
        "order of env": _names_in_env,
    }
    assert seen.keys() == LEFT_OUT.keys()
    assert [name for name, part in seen.items() if part(theirs) == part(ours)] == []
    assert _names_in_env(theirs)[-3:] == _names_in_env(ours)[-3:] == ["Z", "A", "FROM"]


def _names_in_env(manifest: Json) -> list[str]:
    return [entry["name"] for entry in manifest["spec"]["template"]["spec"]["containers"][0]["env"]]


def test_a_null_restart_policy_is_never_here_and_stays_null_there_which_no_job_may_have(tmp_path: Path) -> None:
    case = Case("null", of_the_run(FLOW, pod={"restartPolicy": None}))
    theirs, ours = ask_prefect1([case], tmp_path)[0]["manifest"], ask_ours(case)["manifest"]
    assert [each["spec"]["template"]["spec"]["restartPolicy"] for each in (theirs, ours)] == [None, "Never"]


def test_the_settings_that_prefect_1_4_1_does_not_know_change_nothing_else(tmp_path: Path) -> None:
    case = Case("settings", of_the_run(FLOW))
    theirs, ours = ask_prefect1([case], tmp_path)[0], ask_ours(case, ttl_seconds_after_finished=60)
    assert ours["manifest"]["spec"].pop("ttlSecondsAfterFinished") == 60
    assert compared(ours) == compared(theirs)
