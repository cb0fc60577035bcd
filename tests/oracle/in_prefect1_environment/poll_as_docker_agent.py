"""Runs the real DockerAgent: `poll_as_docker_agent.py '{"labels": [...], "base_url": "tcp://...", "max_polls": 1}'`."""

import json
import sys

from prefect.agent.docker import DockerAgent

DockerAgent(**json.loads(sys.argv[1])).start()
