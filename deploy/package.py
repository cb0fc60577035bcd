"""The zip that ships: pinned wheels and bytecode, nothing else; the same bytes from the same sources.

Chalice takes a zip that lies already under the name that it would give to its own. So it is built here, with what
Chalice's lacks: a Lambda's code cannot be written to, and without bytecode every cold start would compile it again.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import chalice
from botocore.loaders import create_loader
from chalice.deploy.packager import DependencyBuilder, LambdaDeploymentPackager
from chalice.utils import UI, OSUtils

from deploy.account import DeployError

KEPT = ".packages"
"""Zips that were built before, under the name that Chalice makes of what is in them."""

MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
KUBERNETES = "# Kubernetes:"
"""The line of requirements.txt below which everything is for Kubernetes alone."""

DEAD_FILES = ("*.pyi", "py.typed", "*.c", "*.h", "RECORD", "INSTALLER", "REQUESTED", "WHEEL", "requirements.txt")
DEAD_FOLDERS = ("bin", "aws_lambda_powertools/event_handler/openapi/swagger_ui", "chalicelib/cli")
"""What no function of a stage imports or reads."""

SERVICES = ("ec2", "ecs", "eks", "s3", "secretsmanager", "sqs", "ssm", "sts")
"""The services of AWS that a function speaks to."""


def copy_app(project: Path, directory: Path) -> None:
    """Copy what Chalice ships of a project into a folder that is emptied first, and nothing that Python has left."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for file in ("app.py", "requirements.txt"):
        shutil.copyfile(project / file, directory / file)
    for folder in filter(Path.is_dir, (project / "chalicelib", project / "vendor")):
        shutil.copytree(folder, directory / folder.name, ignore=shutil.ignore_patterns("__pycache__"))


def build_package(directory: Path, architecture: str, with_kubernetes: bool) -> Path:
    """Build the zip of the app in `directory` for an architecture of Lambda, where Chalice looks for it; its path.

    Raises DeployError when a pinned wheel cannot be had.
    """
    packager = LambdaDeploymentPackager(OSUtils(), DependencyBuilder(OSUtils()), UI(), architecture)
    runtime = f"python{sys.version_info.major}.{sys.version_info.minor}"
    package = Path(packager.deployment_package_filename(str(directory), runtime))
    package.parent.mkdir(parents=True, exist_ok=True)
    kept = directory.parent / KEPT / f"{'kubernetes' if with_kubernetes else 'ecs'}-{package.name}"
    if kept.exists():
        shutil.copyfile(kept, package)
        return package
    contents = directory / "contents"
    shutil.rmtree(contents, ignore_errors=True)
    copy_app(directory, contents)
    requirements = contents / "requirements.txt"
    if not with_kubernetes:
        requirements.write_text(requirements.read_text().partition(KUBERNETES)[0])
    _install(requirements, architecture, contents)
    _prune(contents)
    _add_endpoints(contents)
    (contents / "chalice").mkdir()
    for module in ("__init__.py", "app.py"):
        shutil.copyfile(Path(inspect.getfile(chalice)).with_name(module), contents / "chalice" / module)
    _compile(contents)
    _zip(contents, package)
    shutil.rmtree(contents)
    kept.parent.mkdir(exist_ok=True)
    shutil.copyfile(package, kept)
    return package


def _install(requirements: Path, architecture: str, directory: Path) -> None:
    machine, version = MACHINES[architecture], f"{sys.version_info.major}{sys.version_info.minor}"
    glibcs = [f"manylinux_2_{minor}_{machine}" for minor in range(26, 16, -1)]
    platforms = [f"--platform={name}" for name in (*glibcs, f"manylinux2014_{machine}")]
    wheels = [f"--python-version={version}", "--implementation=cp", f"--abi=cp{version}", "--abi=abi3", "--abi=none"]
    options = ["--require-hashes", "--only-binary=:all:", "--no-deps", "--no-compile", "--disable-pip-version-check"]
    _run("The wheels of requirements.txt cannot be had", "pip", "install", "--quiet", *options, *platforms, *wheels,
         f"--target={directory}", f"--requirement={requirements}")  # fmt: skip


def _prune(directory: Path) -> None:
    for folder in DEAD_FOLDERS:
        shutil.rmtree(directory / folder, ignore_errors=True)
    for pattern in DEAD_FILES:
        for path in directory.rglob(pattern):
            path.unlink()


def _add_endpoints(directory: Path) -> None:
    """Where the services are. What botocore has of all 300 of them would take 6 MB of each function's memory."""
    endpoints = create_loader().load_data("endpoints")
    for partition in endpoints["partitions"]:
        services = partition["services"]
        partition["services"] = {name: services[name] for name in SERVICES if name in services}
    path = directory / "chalicelib" / "aws_data" / "endpoints.json"
    path.parent.mkdir()
    path.write_text(json.dumps(endpoints))


def _compile(directory: Path) -> None:
    # In a process of its own: what else has been compiled in this one would show in the bytes.
    options = ["-q", "-j", "1", "--invalidation-mode", "unchecked-hash", "-s", str(directory), "-p", "/var/task"]
    _run("The code does not compile", "compileall", *options, str(directory))


def _run(problem: str, module: str, *words: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run([sys.executable, "-m", module, *words], env=environment, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if "WARNING" not in line]
        raise DeployError(f"{problem}: " + " ".join(lines[:3]))


def _zip(directory: Path, package: Path) -> None:
    with ZipFile(package, "w", ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(each for each in directory.rglob("*") if each.is_file()):
            entry = ZipInfo(str(path.relative_to(directory)), date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.external_attr = ZIP_DEFLATED, 0o100644 << 16
            archive.writestr(entry, path.read_bytes())
