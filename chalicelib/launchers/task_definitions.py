"""Task definitions on ECS: registered once for each content, looked up once for each process."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from chalicelib.builders.ecs_launch import AGENT_TAG, tag_text
from chalicelib.errors import LaunchForbidden, LaunchRejected, UnsupportedRun
from chalicelib.flow_runs import Document
from chalicelib.launchers.aws_answers import DefinitionGone, answers


class TaskDefinitions:
    """Finds, registers and describes task definitions of an agent; safe to share between threads."""

    def __init__(self, ecs_client: Callable[[], Any], agent_name: str) -> None:
        self._ecs = ecs_client
        self._tag = {"key": AGENT_TAG, "value": tag_text(agent_name)}
        self._family_locks: dict[str, threading.Lock] = {}
        self._arns: dict[str, str] = {}
        self._described: dict[str, Document] = {}

    def ensure(self, definition: Document) -> str:
        """The ARN of an ACTIVE task definition with this content, registered now if there is none.

        `definition` is a RegisterTaskDefinition request whose family names its content, so the family's newest revision
        is as good as any. Threads that ask for one family wait for each other. Raises LaunchRejected or LaunchDeferred.
        """
        family = definition["family"]
        with self._family_locks.setdefault(family, threading.Lock()):
            if family not in self._arns:
                try:
                    found = self._find(family)
                except DefinitionGone:
                    found = self._register(definition)
                self._arns[family] = str(found["taskDefinitionArn"])
            return self._arns[family]

    def forget(self, definition: Document) -> None:
        """Look this one up again: ECS says that it is gone."""
        self._arns.pop(definition["family"], None)

    def describe(self, name: str) -> Document:
        """The ACTIVE task definition that a run names itself, by its ARN or as ECS also takes it.

        Raises UnsupportedRun when there is none, LaunchDeferred when ECS cannot say now, LaunchForbidden when the agent
        may not ask.
        """
        if name in self._described:
            return self._described[name]
        try:
            found = self._find(name)
        except LaunchForbidden:
            raise
        except LaunchRejected as error:
            raise UnsupportedRun(f"The task definition {name} cannot be used: {error}") from error
        if found["status"] != "ACTIVE":
            raise UnsupportedRun(f"The task definition {name} is {found['status']}: register it again, name that one")
        document = {field: value for field, value in found.items() if not isinstance(value, datetime)}
        if re.search(r":\d+$", name):  # A family alone may mean another revision the next time.
            self._described[name] = document
        return document

    def _find(self, name: str) -> Document:
        with answers(f"DescribeTaskDefinition of {name}"):
            found: Document = self._ecs().describe_task_definition(taskDefinition=name)["taskDefinition"]
            return found

    def _register(self, definition: Document) -> Document:
        with answers(f"RegisterTaskDefinition of {definition['family']}"):
            # By this tag whoever takes the agent away finds what it has left.
            tags = [*(each for each in definition.get("tags") or () if each["key"] != AGENT_TAG), self._tag]
            registered: Document = self._ecs().register_task_definition(**{**definition, "tags": tags})[
                "taskDefinition"
            ]
            return registered
