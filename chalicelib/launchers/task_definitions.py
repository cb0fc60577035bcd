"""Task definitions on ECS: registered once for each content, looked up once for each process."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from chalicelib.errors import LaunchDeferred, LaunchForbidden, LaunchRejected, UnsupportedRun
from chalicelib.flow_runs import Document
from chalicelib.launchers.ecs_answers import DefinitionGone, answers_to_a_question


class TaskDefinitions:
    """Finds, registers and describes task definitions; safe to share between threads."""

    def __init__(self, ecs_client: Callable[[], Any]) -> None:
        self._ecs = ecs_client
        self._lock = threading.Lock()
        self._family_locks: dict[str, threading.Lock] = {}
        self._arns: dict[str, str] = {}
        self._described: dict[str, Document] = {}

    def ensure(self, definition: Document) -> str:
        """The ARN of an ACTIVE task definition with this content, registered now if there is none.

        `definition` is a RegisterTaskDefinition request whose family names its content, so the family's newest revision
        is as good as any. Threads that ask for one family wait for each other. Raises LaunchRejected or LaunchDeferred.
        """
        family = definition["family"]
        with self._lock:
            family_lock = self._family_locks.setdefault(family, threading.Lock())
        with family_lock:
            if family not in self._arns:
                self._arns[family] = self._find_or_register(definition)
            return self._arns[family]

    def forget(self, definition: Document) -> None:
        """Look this one up again: ECS says that it is gone."""
        self._arns.pop(definition["family"], None)

    def describe(self, name: str) -> Document:
        """The ACTIVE task definition that a run names itself, by its ARN or as ECS also takes it.

        Raises UnsupportedRun when there is none, LaunchDeferred when ECS cannot say now, LaunchForbidden when the agent
        may not ask.
        """
        if name not in self._described:
            document = self._describe(name)
            if not re.search(r":\d+$", name):
                return document  # A family alone may mean another revision the next time.
            self._described[name] = document
        return self._described[name]

    def _describe(self, name: str) -> Document:
        try:
            found = self._ask_for(name)
        except (LaunchForbidden, LaunchDeferred):
            raise
        except LaunchRejected as error:
            raise UnsupportedRun(f"The task definition {name} cannot be used: {error}") from error
        if found["status"] != "ACTIVE":
            raise UnsupportedRun(f"The task definition {name} is {found['status']}: register it again, name that one")
        return {field: value for field, value in found.items() if not isinstance(value, datetime)}

    def _find_or_register(self, definition: Document) -> str:
        try:
            return str(self._ask_for(definition["family"])["taskDefinitionArn"])
        except DefinitionGone:
            return self._register(definition)

    def _ask_for(self, name: str) -> Document:
        with answers_to_a_question(f"DescribeTaskDefinition of {name}"):
            return read_definition(self._ecs().describe_task_definition(taskDefinition=name), name)

    def _register(self, definition: Document) -> str:
        with answers_to_a_question(f"RegisterTaskDefinition of {definition['family']}"):
            answer = self._ecs().register_task_definition(**definition)
            return str(read_definition(answer, definition["family"])["taskDefinitionArn"])


def read_definition(answer: Document, name: str) -> Document:
    """The task definition in an answer; LaunchDeferred when there is none, as something else than ECS has answered."""
    found: Document | None = answer.get("taskDefinition")
    if not found:
        raise LaunchDeferred(f"The task definition {name} cannot be looked up now: the answer is not ECS's")
    return found
