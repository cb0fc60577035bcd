"""Templates that runs name: malformed, missing, outside of what is allowed, and full of what nobody may see."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import Prefect1Server
from tests.integration.lambdas import Lambdas
from tests.integration.pairs import GOOD, Pair, check_launched

BUCKET = "flow-templates"
PLANTED = "PLANTED-hunter2-0123456789"
TEMPLATE = """
networkMode: awsvpc
cpu: 256
memory: 512
containerDefinitions:
- name: flow
  image: flows:template
"""


@pytest.fixture
def pair(prefect: Prefect1Server, ecs: EcsServer) -> Pair:
    return Pair(prefect, ecs)


@pytest.fixture
def templates(environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """Puts an object into the bucket of which only `allowed/` may be read, and answers its path."""
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    monkeypatch.setenv("AGENT_TEMPLATE_PATHS", f"s3://{BUCKET}/allowed/")

    def put(key: str, text: str) -> str:
        s3.put_object(Bucket=BUCKET, Key=key, Body=text.encode())
        return f"s3://{BUCKET}/{key}"

    yield put
    for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        s3.delete_object(Bucket=BUCKET, Key=item["Key"])
    s3.delete_bucket(Bucket=BUCKET)
    s3.close()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("networkMode: [awsvpc\ncpu: 256\n", "not valid YAML, line 2"),
        ("- flow\n- sidecar\n", "not an object at its top"),
        ("containerDefinitions: 7\n", "containerDefinitions is a number, not a list"),
        ("containerDefinitions:\n- name: flow\n  image:\n  essential:\n", "containerDefinitions[0].essential is null"),
        ("!!python/object/apply:os.system ['id']\n", "not an object at its top"),
        ('containerDefinitions: [{name: flow, environment: [{name: A, value: "\\0"}]}]\n', "A has a NUL character"),
        ("# " + "x" * 300_000, "larger than 256 KB"),
    ],
)
def test_a_malformed_template_fails_its_run_with_the_line_or_the_key(
    templates: Callable[[str, str], str], lambdas: Lambdas, pair: Pair, text: str, problem: str
) -> None:
    path = templates("allowed/definition.yaml", text)
    pair.add({**GOOD, "task_definition_path": path})
    lambdas.tick()
    assert path in pair.reason
    assert problem in pair.reason
    pair.check_the_good_one()


def test_a_template_that_is_not_there_is_told_from_one_that_may_not_be_read(
    templates: Callable[[str, str], str], lambdas: Lambdas, pair: Pair
) -> None:
    pair.add({**GOOD, "task_definition_path": f"s3://{BUCKET}/allowed/gone.yaml"})
    lambdas.tick()
    assert "NoSuchKey" in pair.reason
    assert "s3:GetObject" in pair.reason
    pair.check_the_good_one()


def test_a_template_in_an_allowed_place_is_used(
    templates: Callable[[str, str], str], lambdas: Lambdas, prefect: Prefect1Server, ecs: EcsServer
) -> None:
    path = templates("allowed/team/definition.yaml", TEMPLATE)
    run_id = prefect.add_flow_run(labels=["dev"], run_config={"type": "ECSRun", "task_definition_path": path})
    lambdas.tick()
    check_launched(prefect, ecs, run_id)
    (task,) = ecs.tasks()
    assert [container["image"] for container in task["containers"]] == ["flows:template"]


def test_what_stands_in_a_file_that_a_run_points_at_comes_out_nowhere(
    templates: Callable[[str, str], str],
    lambdas: Lambdas,
    prefect: Prefect1Server,
    ecs: EcsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AGENT_TEMPLATE_PATHS", f"s3://{BUCKET}/allowed/,{tmp_path}")
    monkeypatch.setenv("PREFECT__CLOUD__AGENT__LEVEL", "DEBUG")
    file = tmp_path / "credentials"
    file.write_text(f"[default]\naws_secret_access_key: {PLANTED}\n")
    inside = [
        f"- {PLANTED}\n",
        f"key: [{PLANTED}\n",
        f"{PLANTED}: &a [*a]\n",
        f"password: !!int {PLANTED}\n",
        f"cpu: !{PLANTED} 1\n",
        f"containerDefinitions: {PLANTED}\n",
        f"containerDefinitions: [{{name: flow, image: [{PLANTED}]}}]\n",
        f"containerDefinitions: [{{name: flow, environment: {PLANTED}}}]\n",
        f"tags: [{PLANTED}]\n",
        f"volumes: {PLANTED}\n",
    ]
    paths = [templates(f"allowed/{number}", text) for number, text in enumerate(inside)]
    paths += [templates("allowed-not", f"key: {PLANTED}\n"), f"s3://{BUCKET}/allowed/../allowed-not"]
    paths += [str(file), f"file://{file}", f"{tmp_path}/../{tmp_path.name}/credentials"]
    runs = [
        prefect.add_flow_run(labels=["dev"], run_config={**GOOD, "task_definition_path": path, "cpu": "256"})
        for path in paths
    ]
    report = lambdas.tick()
    health = lambdas.get("/api/health/details")
    said = [prefect.states(run_id) + prefect.logs(run_id) for run_id in runs]
    printed = "".join(capfd.readouterr())
    seen = printed + json.dumps([report, health, said, ecs.calls], default=str)
    assert {prefect.flow_run(run_id)["state"] for run_id in runs} == {"Failed"}
    assert '"message":"Tick"' in printed
    assert str(file) in seen
    assert PLANTED not in seen
