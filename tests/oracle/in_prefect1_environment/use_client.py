"""Makes the calls named on standard input with the real client and prints what each returned, or its error.

Input: a JSON list of [method, keyword arguments]; a state is given as {"state": document}. An argument "$n" stands for
what call n returned.
"""

import json
import sys

import prefect
from prefect.engine.state import State


def argument(value, results):
    if isinstance(value, str) and value.startswith("$"):
        return results[int(value[1:])]["result"]
    if isinstance(value, dict) and set(value) == {"state"}:
        return State.deserialize(value["state"])
    return value


def call(client, method, arguments):
    try:
        if method == "tenant_id":
            return {"result": client.tenant_id}
        result = getattr(client, method)(**arguments)
        if isinstance(result, State):
            result = result.serialize()
        return {"result": json.loads(json.dumps(result, default=str))}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


client = prefect.Client()
results = []
for method, arguments in json.load(sys.stdin):
    results.append(call(client, method, {name: argument(value, results) for name, value in arguments.items()}))
json.dump(results, sys.stdout)
