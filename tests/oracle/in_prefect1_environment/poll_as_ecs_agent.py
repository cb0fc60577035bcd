"""Runs the real ECSAgent for some polls: `poll_as_ecs_agent.py '{"labels": [...], "max_polls": 1, ...}'`."""

import json
import sys

from prefect.agent.ecs import ECSAgent

ECSAgent(**json.loads(sys.argv[1])).start()
