"""Runs the real KubernetesAgent: `poll_as_kubernetes_agent.py '{"labels": [...], "max_polls": 1, ...}'`.

With `heartbeat` after the settings it does once what its heartbeat does, and nothing else.
"""

import json
import sys

from prefect.agent.kubernetes import KubernetesAgent

agent = KubernetesAgent(**json.loads(sys.argv[1]))
agent.heartbeat() if sys.argv[2:] == ["heartbeat"] else agent.start()
