"""What ships, and the one template for a pipeline."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from functools import partialmethod
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from botocore.session import Session, get_session

from chalicelib.launchers.aws import DATA, AwsClients
from deploy.account import DeployError
from deploy.package import SERVICES, build_package, copy_app
from tests.deploy.account import ROOT
from tests.deploy.conftest import MakeClone
from tests.deploy.lambda_runtime import runtime_directory

KUBERNETES_BYTES, ECS_BYTES, ENDPOINTS_BYTES = 7_400_000, 4_600_000, 50_000


def build(directory: Path, architecture: str = "arm64", with_kubernetes: bool = False) -> Path:
    copy_app(ROOT, directory)
    return build_package(directory, architecture, with_kubernetes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip for Kubernetes on arm64, which has everything."""
    return build(tmp_path_factory.mktemp("whole"), with_kubernetes=True)


def test_the_zip_is_small_with_kubernetes_and_smaller_without(whole: Path, tmp_path: Path) -> None:
    assert whole.stat().st_size < KUBERNETES_BYTES
    assert build(tmp_path).stat().st_size < ECS_BYTES


def test_the_same_sources_make_the_same_bytes(tmp_path: Path) -> None:
    first, second = (hashlib.sha256(build(tmp_path / name).read_bytes()).hexdigest() for name in ("one", "another"))
    assert first == second


def test_every_module_has_bytecode_that_is_never_checked_against_its_source(whole: Path) -> None:
    with ZipFile(whole) as archive:
        names = archive.namelist()
        headers = {archive.read(name)[4:8] for name in names if name.endswith(".pyc")}
    modules = {name for name in names if name.endswith(".py")}
    compiled = {re.sub(r"__pycache__/(.*)\.cpython-\d+\.pyc", r"\1.py", name) for name in names}
    assert len(modules) > 300
    assert modules <= compiled
    assert headers == {(1).to_bytes(4, "little")}


def test_nothing_ships_that_no_function_imports(whole: Path) -> None:
    names = ZipFile(whole).namelist()
    strangers = ("boto", "pytest", "moto", "mypy", "ruff", "pip", "chalicelib/cli", "deploy", "tests", "bin/")
    assert [name for name in names if name.startswith(strangers)] == []
    assert {name.split("/")[0] for name in names if name.startswith("chalice/")} == {"chalice"}


def test_the_endpoints_that_ship_are_few_and_lead_where_those_of_botocore_lead(whole: Path, tmp_path: Path) -> None:
    with ZipFile(whole) as archive:
        shipped = Path(archive.extract(f"{DATA.relative_to(ROOT)}/endpoints.json", tmp_path))
    assert shipped.stat().st_size < ENDPOINTS_BYTES
    known, short = get_session(), get_session()
    short.set_config_variable("data_path", str(shipped.parent))
    for partition in json.loads(shipped.read_text())["partitions"]:
        for region in (*list(partition["regions"])[:2], "eu-yet-unknown-1"):
            for service in SERVICES:
                assert way_to(short, service, region) == way_to(known, service, region)


def way_to(session: Session, service: str, region: str) -> tuple[str, ...]:
    """Where a client of this service sends its requests, and what it signs them for."""
    client: Any = session.create_client(service, region, aws_access_key_id="x", aws_secret_access_key="y")
    signer = client._request_signer
    return client.meta.endpoint_url, signer._signature_version, signer._signing_name, signer._region_name


def test_each_service_that_the_agent_has_a_client_of_is_among_the_endpoints() -> None:
    own = {name.removesuffix("_once") for name, value in vars(AwsClients).items() if isinstance(value, partialmethod)}
    assert own < set(SERVICES)


@pytest.mark.parametrize(("architecture", "machine"), [("arm64", "aarch64"), ("x86_64", "x86_64")])
def test_what_is_compiled_is_for_the_machine_that_was_asked_for(
    tmp_path: Path, architecture: str, machine: str
) -> None:
    names = ZipFile(build(tmp_path, architecture)).namelist()
    libraries = [name for name in names if name.endswith(".so")]
    assert libraries
    assert [name for name in libraries if machine not in name] == []


def test_the_zip_alone_can_sign_in_to_kubernetes(tmp_path: Path) -> None:
    with ZipFile(build(tmp_path / "build", "x86_64", with_kubernetes=True)) as archive:
        archive.extractall(tmp_path / "task")
    (tmp_path / "runtime").mkdir()
    path = f"{tmp_path / 'task'}:{runtime_directory(tmp_path / 'runtime')}"
    code = "import app, lightkube, chalicelib.launchers.kubernetes_access; print(lightkube.__file__)"
    done = subprocess.run([sys.executable, "-S", "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.stdout.startswith(str(tmp_path)), done.stderr


def test_a_wheel_whose_hash_is_another_is_refused(tmp_path: Path) -> None:
    copy_app(ROOT, tmp_path)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(
        re.sub(r"(idna==\S+ \\\n\s+--hash=sha256:)\w+", rf"\g<1>{'0' * 64}", requirements.read_text())
    )
    with pytest.raises(DeployError, match=r"wheels of requirements\.txt.*HASHES"):
        build_package(tmp_path, "arm64", with_kubernetes=False)


def test_every_requirement_is_pinned_by_hash_and_what_setuptools_installs_is_the_same() -> None:
    text = (ROOT / "requirements.txt").read_text()
    pinned = dict(re.findall(r"^([\w-]+)==(\S+) \\$", text, re.MULTILINE))
    blocks = re.split(r"^(?=[\w-]+==)", text, flags=re.MULTILINE)[1:]
    assert [block.split("==")[0] for block in blocks if "--hash=sha256:" not in block] == []
    constraints = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    same = {name.lower().replace("_", "-"): version for name, version in constraints.items()}
    assert {name: version for name, version in pinned.items() if same[name.lower().replace("_", "-")] != version} == {}


def test_one_template_for_a_pipeline_has_all_of_a_stage(make_clone: MakeClone) -> None:
    clone = make_clone()
    up = clone.run("up", "--stage", "pipe", "--set", "PREFECT__CLOUD__API=https://prefect.example.org")
    assert up.code == 0, up.err
    packaged = clone.run("package", "--stage", "pipe")
    assert packaged.code == 0, packaged.err
    folder = Path(packaged.out.splitlines()[-1])
    resources = json.loads((folder / "sam.json").read_text())["Resources"]
    functions = {name: each["Properties"] for name, each in resources.items() if each["Type"].endswith("::Function")}
    assert functions.keys() == {"Tick", "Wake", "TaskStopped", "APIHandler"}
    assert len({each["Role"] for each in functions.values()}) == 4
    assert functions["Tick"]["EventInvokeConfig"] == {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}
    assert resources["RestAPI"]["Properties"]["MethodSettings"][0]["ThrottlingRateLimit"] == 5
    assert (folder / "deployment.zip").stat().st_size < ECS_BYTES
