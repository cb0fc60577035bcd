"""The Jobs that this agent makes for Kubernetes work pools, beside those of the real worker for the same flow runs.

Both go to the double of the Kubernetes API, so that what the API would refuse counts as refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib.builders.kubernetes_defaults import SecretKey
from chalicelib.builders.kubernetes_job import with_key
from chalicelib.builders.work_pool_container import WorkPoolContainer
from chalicelib.builders.work_pool_job import WorkPoolJobDefaults, build_work_pool_job
from chalicelib.errors import LaunchError, UnsupportedRun
from chalicelib.flow_runs import Flow, FlowRun, WorkPoolJob
from chalicelib.launchers.kubernetes_access import KubeconfigSignIn, KubernetesApi
from tests.doubles.kubernetes import KubernetesServer
from tests.doubles.kubernetes.kubeconfig import write_kubeconfig
from tests.oracle.generated import generated
from tests.oracle.kubernetes_schema import OLDEST, schema_problem
from tests.oracle.prefect3_environment import default_base_job_template, run_with_prefect3
from tests.oracle.work_pool_job_cases import (
    ALIKE,
    BEHAVIOR,
    DIFFERENT,
    UNLIKE,
    Json,
    PoolCase,
    changed,
    default_template,
)
from tests.oracle.work_pool_job_generated_cases import cases

pytestmark = pytest.mark.oracle

GENERATED = 150
API_URL = "https://prefect.example.org/api"
IMAGE = "prefecthq/prefect:3.8.8-python3.11"
RUN, FLOW, DEPLOYMENT, POOL = (f"00000000-0000-4000-8000-00000000000{number}" for number in range(1, 5))
UPDATED = "2026-01-02T03:04:05.678901+00:00"
NAMESPACES = ("default", "flows", "elsewhere", "other", "kube-system")

LEAKED = ("PREFECT_HOME", "PREFECT_SERVER_EPHEMERAL_ENABLED")
"""Settings of the worker's own in these tests."""

LEFT_OUT = {
    "name": "ours is made of the launch key, so that a second launch with it meets the first",
    "annotations": "ours say the launch key and the agent",
    "versions": "ours bears no version of Prefect, as the agent is none",
    "settings": "theirs hands on every setting of the worker's own profile",
    "order of env": "the names that the agent itself sets stand in another order",
}


@dataclass(frozen=True)
class Apis:
    """Both servers' view of a Job."""

    server: KubernetesServer
    api: KubernetesApi

    def take(self, namespace: str, manifest: Json) -> Json:
        """The manifest, or why no cluster takes it."""
        problem = schema_problem(manifest, strict=False)
        if problem:
            return {"refused": f"schema: {problem}"}
        named = {**manifest, "metadata": {**manifest["metadata"], "name": "x"}}
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        try:
            self.api.ask("POST", path, "Creating", json=named, params={"dryRun": "All"})
        except LaunchError as error:
            return {"refused": str(error)}
        return {"namespace": namespace, "manifest": manifest}


@pytest.fixture(scope="module")
def apis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apis]:
    config = tmp_path_factory.mktemp("kubeconfig") / "config"
    with KubernetesServer(namespaces=NAMESPACES) as server:
        write_kubeconfig(server, config)
        api = KubernetesApi(KubeconfigSignIn(str(config)))
        yield Apis(server, api)
        api.close()


def documents_of(case: PoolCase) -> Json:
    """What the API has of a case."""
    deployment = {"id": DEPLOYMENT, "name": case.deployment_name, "flow_id": FLOW, "updated": UPDATED}
    has = case.has_deployment
    template = case.template if case.template is not None else default_template()
    run = {"id": RUN, "name": case.run_name, "flow_id": FLOW, "deployment_id": DEPLOYMENT if has else None}
    return {
        "pool": {"id": POOL, "name": "pool", "type": "kubernetes", "base_job_template": template},
        "flow": {"id": FLOW, "name": case.flow_name},
        "deployment": {**deployment, "job_variables": case.variables} if has else {},
        "flow_run": {**run, "job_variables": case.run_variables if has else {**case.variables, **case.run_variables}},
    }


def ask_prefect3(cases: Sequence[PoolCase]) -> list[Json]:
    """The real worker's answers, all from one process."""
    lines = []
    for case in cases:
        agent = {name: value for name, value in case.agent.items() if name != "secret"}
        variable = "PREFECT_API_AUTH_STRING" if "auth_string" in agent else "PREFECT_API_KEY"
        secret = {"variable": variable, **case.agent["secret"]} if "secret" in case.agent else None
        more = {"settings": {"api_url": API_URL, **agent}, "secret": secret, "variables": case.prefect_variables}
        lines.append(json.dumps({**documents_of(case), **more}))
    answers = run_with_prefect3("prepare_job_with_prefect3.py", "\n".join(lines))
    return [json.loads(line) for line in answers.splitlines()]


def ask_ours(case: PoolCase) -> Json:
    """The Job that this agent would make, or why it refuses."""
    documents = documents_of(case)
    references = {f"prefect.variables.{name}": value for name, value in case.prefect_variables.items()}
    run = FlowRun(
        id=RUN,
        name=case.run_name,
        version=1,
        start_time=datetime(2026, 1, 1, tzinfo=UTC),
        flow=Flow(FLOW, case.flow_name),
        job=WorkPoolJob(documents["pool"], documents["flow_run"], documents["deployment"], references),
    )
    agent = {name: value for name, value in case.agent.items() if name != "secret"}
    container = WorkPoolContainer(API_URL, agent_name="oracle", image=IMAGE, **agent)
    secret = SecretKey(**case.agent["secret"]) if "secret" in case.agent else None
    allowed = frozenset({"flows"})
    defaults = WorkPoolJobDefaults(container, allowed_namespaces=allowed, api_key_secret=secret)
    try:
        launch = build_work_pool_job(run, defaults)
    except UnsupportedRun as error:
        return {"refused": str(error)}
    return {"namespace": launch.namespace, "manifest": with_key(launch.job, "00000000-0000-4000-8000-00000000000f")}


def compared(answer: Json) -> Json:
    """What must be the same: the manifest without what `LEFT_OUT` says."""
    if "refused" in answer:
        return {"refused": True}
    manifest: Json = json.loads(json.dumps(answer["manifest"]))
    for described in (manifest, manifest["spec"]["template"]):
        metadata = described["metadata"]
        own = metadata.pop("annotations", {})
        metadata["annotations"] = {name: own[name] for name in own if not name.startswith("prefect-agent/")}
        for label in ("prefect.io/version", "app.kubernetes.io/version"):
            metadata["labels"].pop(label, None)
    manifest["metadata"] = {n: v for n, v in manifest["metadata"].items() if n not in ("name", "generateName")}
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    env = [entry for entry in container.pop("env") if entry["name"] not in LEAKED]
    order = [entry["name"] for entry in env if not entry["name"].startswith("PREFECT")]
    return {**answer, "manifest": manifest, "env": sorted(env, key=lambda entry: str(entry["name"])), "order": order}


def answers_to(cases: Sequence[PoolCase], apis: Apis) -> list[tuple[PoolCase, Json, Json]]:
    """Each case with the worker's Job and ours, as a cluster takes them."""
    theirs = ask_prefect3(cases)

    def taken(answer: Json) -> Json:
        return answer if "refused" in answer else apis.take(**answer)

    return [(case, taken(answer), taken(ask_ours(case))) for case, answer in zip(cases, theirs, strict=True)]


def assert_alike(cases: Sequence[PoolCase], apis: Apis) -> int:
    """That both make the same in every case, tells all in which they do not; how many cases became a Job."""
    answers = answers_to(cases, apis)
    found = [
        f"{case}\n  prefect: {json.dumps(theirs)}\n  ours:    {json.dumps(ours)}"
        for case, theirs, ours in answers
        if compared(theirs) != compared(ours)
    ]
    assert not found, f"{len(found)}\n\n" + "\n\n".join(found)
    return sum("refused" not in theirs for _, theirs, _ in answers)


def test_the_default_template_is_that_of_prefect_3_8_8() -> None:
    official = default_base_job_template("kubernetes")
    ours = default_template()
    assert official["job_configuration"] == ours["job_configuration"]
    defaults = [
        {
            name: row["default"]
            for name, row in each["variables"]["properties"].items()
            if row.get("default") is not None
        }
        for each in (official, ours)
    ]
    assert defaults[0] == defaults[1]
    assert official["variables"]["properties"].keys() == ours["variables"]["properties"].keys()


def test_the_table_of_job_variables_and_templates_becomes_what_prefect_makes_of_it(apis: Apis) -> None:
    assert len(ALIKE) > 150
    assert assert_alike(ALIKE, apis) > 100


def test_generated_work_pools_become_what_prefect_makes_of_them(apis: Apis) -> None:
    assert GENERATED * 0.4 < assert_alike(generated(cases(), GENERATED), apis) < GENERATED


def test_the_listed_differences_are_all_there_are_to_be_seen_and_are_real(apis: Apis) -> None:
    assert {case.difference for case in UNLIKE} == DIFFERENT.keys()
    alike = [case for case, theirs, ours in answers_to(UNLIKE, apis) if compared(theirs) == compared(ours)]
    assert alike == []


def test_what_is_left_out_of_the_comparison_is_really_different() -> None:
    case = PoolCase("bare", {"env": {"A": "1"}})
    (theirs,) = ask_prefect3([case])
    manifests = [theirs["manifest"], ask_ours(case)["manifest"]]
    names = [[entry["name"] for entry in _env(manifest)] for manifest in manifests]
    seen = {
        "name": [manifest["metadata"].get("generateName") for manifest in manifests],
        "annotations": [manifest["metadata"].get("annotations") for manifest in manifests],
        "versions": [manifest["metadata"]["labels"].get("prefect.io/version") for manifest in manifests],
        "settings": [bool(set(LEAKED) & set(each)) for each in names],
        "order of env": [[name for name in each if name not in LEAKED] for each in names],
    }
    assert seen.keys() == LEFT_OUT.keys()
    assert [name for name, (one, other) in seen.items() if one == other] == []


def _env(manifest: Json) -> list[Json]:
    env: list[Json] = manifest["spec"]["template"]["spec"]["containers"][0]["env"]
    return env


@pytest.mark.parametrize("version", [OLDEST, None])
def test_what_ours_makes_is_a_job_by_the_published_schemas(version: str | None) -> None:
    made = [answer["manifest"] for case in ALIKE if "manifest" in (answer := ask_ours(case))]
    more = {"version": version} if version else {}
    assert len(made) > 100
    assert {problem for manifest in made if (problem := schema_problem(manifest, strict=False, **more))} == set()


def test_only_what_the_default_template_itself_has_wrong_is_unknown_to_the_schema() -> None:
    marks = {"parallelism": 1, "completions": 1}
    manifest: Any = ask_ours(PoolCase("bare"))["manifest"]
    pod = manifest["spec"]["template"]["spec"]
    assert {name: pod.pop(name) for name in marks} == marks
    assert schema_problem(manifest) == ""


def test_a_jobs_next_pod_keeps_the_run() -> None:
    case = PoolCase("retries", {"backoff_limit": 3}, template=changed())
    (theirs,) = ask_prefect3([case])
    found = [
        entry["value"]
        for manifest in (theirs["manifest"], ask_ours(case)["manifest"])
        for entry in _env(manifest)
        if entry["name"] == BEHAVIOR
    ]
    assert found == ["relinquish", "relinquish"]
