"""A flow of two tasks and a parameter; as a script it registers itself and prints the ids of the flow and of a run.

Arguments: where results go, the number, and how the flow is stored: script (the default), pickle or module.
"""

import contextlib
import io
import json
import pathlib
import sys

import prefect
from prefect import Flow, Parameter, task
from prefect.engine.results import LocalResult
from prefect.run_configs import UniversalRun
from prefect.storage import Local, Module


@task
def double(number):
    prefect.context["logger"].info("doubling %s", number)
    return 2 * number


@task
def check(number):
    if number != 42:
        raise ValueError(number)


def storage(kind):
    if kind == "pickle":
        return Local(directory=str(directory / "flows"), add_default_labels=False)
    if kind == "module":
        return Module(pathlib.Path(__file__).stem)
    return Local(path=str(pathlib.Path(__file__).resolve()), stored_as_script=True, add_default_labels=False)


directory = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
with Flow(
    "adding",
    storage=storage(sys.argv[3] if len(sys.argv) > 3 else "script"),
    run_config=UniversalRun(labels=["lab"]),
    result=LocalResult(dir=str(directory)),
) as flow:
    check(double(Parameter("number", default=4)))

if __name__ == "__main__":
    client = prefect.Client()
    with contextlib.redirect_stdout(io.StringIO()):
        client.create_project("oracle")
        client.create_project("oracle")
        flow_id = flow.register("oracle", labels=["lab"])
    number = int(sys.argv[2])
    json.dump(
        {"flow": flow_id, "run": client.create_flow_run(flow_id=flow_id, parameters={"number": number})}, sys.stdout
    )
