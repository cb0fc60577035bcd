# mypy: ignore-errors
"""Prints the default base job templates of the official workers, as JSON, by the type of their work pools."""

import json
import os

from prefect.workers.process import ProcessWorker
from prefect_aws.workers.ecs_worker import ECSWorker
from prefect_kubernetes.worker import KubernetesWorker

if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Whatever Prefect prints does not mix with the answer.
    workers = (ECSWorker, KubernetesWorker, ProcessWorker)
    answers.write(json.dumps({worker.type: worker.get_default_base_job_template() for worker in workers}))
    answers.close()
