"""Builds Jobs with the real KubernetesAgent of Prefect 1.4.1 and prints their manifests.

One case a line on stdin, as JSON: {"settings", "config", "flow_run", "at_path"}; one answer a line on stdout:
{"manifest"}, or {"refused"} with the reason. `at_path` is a template that is put into a file, and the file into the run
config. Runs in an environment that has prefect 1.4.1 and kubernetes; the home directory holds a kubeconfig, whose
server is never asked.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from prefect.agent.kubernetes.agent import KubernetesAgent
from prefect.utilities.configuration import set_temporary_config
from prefect.utilities.graphql import GraphQLResult


def build(case, directory):
    settings, flow_run = case["settings"], case["flow_run"]
    if "job_template_path" in settings:
        settings["job_template_path"] = write(directory / "of_the_agent", settings["job_template_path"])
    if case.get("at_path") is not None:
        path = write(directory / "of_the_run", case["at_path"])
        flow_run["run_config"]["job_template_path"] = f"agent://{path}"
    with set_temporary_config(case["config"]):
        agent = KubernetesAgent(**settings)
        try:
            return {"manifest": agent.generate_job_spec(GraphQLResult(flow_run))}
        except Exception as error:
            return {"refused": f"{type(error).__name__}: {error}"}


def write(path, document):
    path.write_text(json.dumps(document))
    return str(path)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Whatever Prefect prints does not mix with the answers.
    with tempfile.TemporaryDirectory() as directory:
        for line in sys.stdin:
            answers.write(json.dumps(build(json.loads(line), Path(directory))) + "\n")
    answers.close()
