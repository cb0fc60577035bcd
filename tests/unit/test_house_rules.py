"""What CONTRIBUTING.md says of the size of things, counted."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PRODUCT = [PROJECT / "app.py", *sorted((PROJECT / "chalicelib").rglob("*.py")), *(PROJECT / "deploy").rglob("*.py")]
INSTALLATION_LINES, PRODUCT_LINES, MODULE_LINES, FUNCTION_LINES = 4500, 9000, 300, 40
ARN = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:prefect/key-Ab12Cd"
POOLS = {"AGENT_WORK_POOLS": "pool", "PREFECT_API_KEY": ARN, "AGENT_EKS_CLUSTER": "main"}
INSTALLATIONS = {
    "Prefect 1 on ECS": ({"AGENT_PLATFORM": "ecs", "PREFECT__CLOUD__API_KEY": ARN}, ""),
    "Prefect 1 on Kubernetes": ({"AGENT_PLATFORM": "kubernetes", "AGENT_EKS_CLUSTER": "main"}, ""),
    "work pools on ECS": (POOLS, "ecs"),
    "work pools on Kubernetes": (POOLS, "kubernetes"),
}
LOAD = """
import json, sys, app
from contextlib import suppress
from chalicelib.flow_runs import Flow, FlowRun, WorkPoolJob
launcher = app.installation().ticks.agent.launcher
app.installation().health
# The first run of a type makes its launcher, whatever becomes of the run.
with suppress(Exception):
    pool = {"name": "pool", "type": sys.argv[1]}
    launcher.build(FlowRun("run", "run", 1, None, Flow("flow", "flow"), job=WorkPoolJob(pool, {})))
print(json.dumps([module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)]))
"""
SILENT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
}


def lines_of_code(path: Path) -> int:
    """Lines with code on them: neither blank, nor comment, nor part of a text that stands for itself."""
    source = path.read_bytes()
    lines: set[int] = set()
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        if token.type not in SILENT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_what_one_installation_loads_stays_small_enough_to_be_read(name: str) -> None:
    settings, pool_type = INSTALLATIONS[name]
    environment = {"PATH": "", "AWS_DEFAULT_REGION": "eu-west-1", **settings}
    command = [sys.executable, "-c", LOAD, pool_type]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout)) & {str(path) for path in PRODUCT}
    assert f"{'prefect3' if pool_type else 'prefect1'}.py" in {Path(path).name for path in loaded}
    assert f"{pool_type or settings['AGENT_PLATFORM']}.py" in {Path(path).name for path in loaded}
    assert 2000 < sum(lines_of_code(Path(path)) for path in loaded) < INSTALLATION_LINES


def test_the_whole_product_has_a_ceiling() -> None:
    assert 1000 < sum(lines_of_code(path) for path in PRODUCT) < PRODUCT_LINES


def test_no_module_and_no_function_is_too_long_to_be_seen_at_once() -> None:
    too_long = []
    for path in PRODUCT:
        source = path.read_text()
        too_long += [path.name] if len(source.splitlines()) > MODULE_LINES else []
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES:
                too_long.append(f"{path.name}:{node.name}")
    assert too_long == []
