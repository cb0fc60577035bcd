"""What a flow run is as a process of this machine (pure): its command, environment and working directory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chalicelib.builders import flow_container, work_pool_container
from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.builders.job_configuration import render_job_configuration
from chalicelib.builders.run_configs import read_local_run
from chalicelib.builders.work_pool_container import WorkPoolContainer
from chalicelib.errors import UnsupportedRun
from chalicelib.flow_runs import FlowRun


@dataclass(frozen=True)
class ProcessLaunch:
    """What it takes to start one flow run: `environment` is what its process is told beyond what this one was told.

    `working_directory` None is a directory of its own that is gone with it. `shows_output`: on our standard output.
    """

    run_id: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    working_directory: str | None = None
    shows_output: bool = False


@dataclass(frozen=True)
class LocalDefaults:
    """The agent's settings for processes of Prefect 1, which start in its own `directory` where a run names none.

    `import_paths` are where they look for modules, after that directory and the agent's own `python_path`.
    """

    container: ContainerSettings
    directory: str
    python_path: str = ""
    import_paths: Sequence[str] = ()
    shows_output: bool = False


def build_local_run(run: FlowRun, defaults: LocalDefaults) -> ProcessLaunch:
    """The process of a Prefect 1 run, as Prefect's own local agent makes it. Raises UnsupportedRun."""
    if run.flow.storage.get("type") == "Docker":
        raise UnsupportedRun("Docker storage exists in a container only: register the flow with another one")
    asked = read_local_run(run)
    directory = asked.working_dir or defaults.directory
    path = os.pathsep.join(filter(None, [directory, defaults.python_path, *defaults.import_paths]))
    environment = {"PYTHONPATH": path, **flow_container.container_environment(run, defaults.container, asked.env)}
    command = flow_container.flow_run_command(run.flow.core_version)[-1].split()
    return ProcessLaunch(run.id, command, environment, directory, defaults.shows_output)


def build_pool_process(run: FlowRun, container: WorkPoolContainer) -> ProcessLaunch:
    """The process of a run of a process pool, as its job configuration has it. Raises UnsupportedRun."""
    configuration = render_job_configuration(run)
    directory = configuration.get("working_dir") or None
    if not isinstance(directory, str | None):
        raise UnsupportedRun("the job configuration is malformed: working_dir is no text")
    return ProcessLaunch(
        run.id,
        work_pool_container.split_command(configuration["command"]),
        work_pool_container.container_environment(run, container, configuration["env"]),
        directory,
        str(configuration.get("stream_output", True)).lower() not in ("false", "0", "no", "off"),
    )
