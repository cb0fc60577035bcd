# mypy: ignore-errors
"""Makes the job configurations of flow runs with the real Prefect 3, as its workers do, and prints them.

One case a line on stdin, as JSON: {"pool", "deployment", "flow_run", "flow", "references"}, the last with the data of
blocks and the values of variables by name; one answer a line on stdout: {"configuration"} or {"refused"} with the
reason. The API is an object that knows the references. `env` and `labels` are taken before the worker adds its own.
"""

import asyncio
import copy
import json
import os
import sys
from types import SimpleNamespace
from typing import Any

import httpx
from prefect.client.schemas.objects import Flow, FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.workers.base import BaseJobConfiguration
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration
from pydantic import ConfigDict, Field, PrivateAttr, field_validator


class KnownAPI:
    """Answers the reads of one configuration out of references, named as the agent names them."""

    def __init__(self, flow, references):
        self.flow = flow
        self.references = references

    async def read_flow(self, flow_id):
        return Flow.model_validate(self.flow)

    def _block(self, name):
        if name not in self.references:
            request = httpx.Request("GET", "http://prefect/api")
            raise ObjectNotFound(
                httpx.HTTPStatusError("404", request=request, response=httpx.Response(404, request=request))
            )
        return SimpleNamespace(data=self.references[name])

    async def read_block_document_by_name(self, name, block_type_slug):
        return self._block(f"prefect.blocks.{block_type_slug}.{name}")

    async def read_block_document(self, block_document_id):
        return self._block(f"block_document_id:{block_document_id}")

    async def read_variable_by_name(self, name):
        reference = f"prefect.variables.{name}"
        return SimpleNamespace(value=self.references[reference]) if reference in self.references else None


class Remembering(BaseJobConfiguration):
    """A configuration that keeps every key of its template, and what it was before the worker's own additions."""

    model_config = ConfigDict(extra="allow")
    _before: dict = PrivateAttr(default_factory=dict)

    def prepare_for_flow_run(self, *arguments, **options):
        self._before = copy.deepcopy({"env": self.env, "labels": self.labels})
        super().prepare_for_flow_run(*arguments, **options)

    def answer(self):
        return {**self.model_extra, "name": self.name, "command": self.command, **self._before}


class RememberingForKubernetes(Remembering):
    env: Any = Field(default_factory=dict)

    @field_validator("env", mode="before")
    @classmethod
    def _coerce_env(cls, value):
        return KubernetesWorkerJobConfiguration._coerce_env(value)


async def configure(case):
    pool, flow_run = SimpleNamespace(**case["pool"]), FlowRun.model_validate(case["flow_run"])
    kind = RememberingForKubernetes if pool.type == "kubernetes" else Remembering
    deployment = SimpleNamespace(**case["deployment"], updated=None) if case["deployment"] else None
    try:
        configuration = await kind.resolve_for_flow_run(
            flow_run,
            client=KnownAPI(case["flow"], case["references"]),
            work_pool=pool,
            worker_name="oracle",
            deployment=deployment,
        )
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"}
    return {"configuration": configuration.answer()}


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Whatever Prefect prints does not mix with the answers.
    for line in sys.stdin:
        answers.write(json.dumps(asyncio.run(configure(json.loads(line)))) + "\n")
    answers.close()
