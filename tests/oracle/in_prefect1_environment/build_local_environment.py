"""Prints, for each case on standard input, the environment and directory that the real local agent gives a flow run.

A case has the flow run, and the arguments of the agent.
"""

import json
import sys

from prefect.agent.local import LocalAgent
from prefect.run_configs import LocalRun
from prefect.utilities.graphql import GraphQLResult


def result(value):
    if isinstance(value, dict):
        return GraphQLResult({name: result(each) for name, each in value.items()})
    return value


def build(case):
    agent = LocalAgent(**case["agent"])
    flow_run = result(case["flow_run"])
    # The run config is read as a document.
    flow_run.run_config = case["flow_run"]["run_config"]
    try:
        run_config = agent._get_run_config(flow_run, LocalRun)
        environment = agent.populate_env_vars(flow_run, run_config=run_config)
    except TypeError as error:
        return {"error": str(error)}
    return {"environment": environment, "directory": None if run_config is None else run_config.working_dir}


json.dump([build(case) for case in json.load(sys.stdin)], sys.stdout)
