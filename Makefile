# Targets depend on .venv, so each works on a fresh clone. PYTHON chooses the interpreter.
VERSIONS := 3.11 3.12 3.13
find_python = for p in python$(1) $$HOME/.pyenv/versions/$(1).*/bin/python; do $$p -c '' 2>/dev/null && echo $$p && break; done
PYTHONS := $(foreach v,$(VERSIONS),$(shell $(call find_python,$(v))))
PYTHON ?= $(firstword $(PYTHONS) python3)
VENV ?= .venv
BIN := $(VENV)/bin
STUBS := generated/relevo/v1/content_pb2.py
# Programs that are started a thousand times are compiled once.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install protos demo bench bench-swarm test test-pythons fuzz attacks properties soak defences faults check format clean
help: ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(VENV)/.done ## make .venv with everything that development needs
$(VENV)/.done: pyproject.toml hatch_build.py
	$(PYTHON) -m venv $(VENV) || { echo "python venv is missing: install it (Debian: apt install python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

protos: $(STUBS) ## compile protos/ into generated/
$(STUBS): $(wildcard protos/relevo/v1/*.proto) protos/protoc.args $(VENV)/.done
	$(BIN)/python -m grpc_tools.protoc @protos/protoc.args --plugin=$(BIN)/protoc-gen-mypy_grpc --mypy_grpc_out=quiet:generated
	@touch $@

demo: $(STUBS) ## run a central and six peers for real, on loopback
	@$(BIN)/python bench/demo.py

bench: $(STUBS) ## measure everything that needs no root beside other programs, into docs/benchmarks.md; ten minutes
	@$(BIN)/python -m bench $(ONLY)

bench-swarm: $(STUBS) ## measure one file to many peers, on hosts with limited links; needs root; thirteen minutes
	@$(BIN)/python -m bench swarm

test: $(STUBS) ## run all tests
	$(BIN)/python -m pytest -n 4 --dist worksteal -q

test-pythons: $(STUBS) ## run all tests on every supported Python that is here
	@set -e; for p in $(or $(PYTHONS),$(PYTHON)); do v=$$($$p -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  echo "== Python $$v"; [ $$p = $(PYTHON) ] && d=$(VENV) || d=.venv-$$v; \
	  $(MAKE) --no-print-directory test PYTHON=$$p VENV=$$d; done

fuzz: $(STUBS) ## run every fuzz target for SECONDS (30) each; SEED repeats a run
	@GRPC_VERBOSITY=NONE $(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),30) $(if $(SEED),--seed $(SEED))

attacks: $(STUBS) ## attack the programs much longer than `make test` does
	RELEVO_ATTACKS=full $(BIN)/python -m pytest -q -n 2 tests/attacks tests/peer/test_swapped_links.py tests/test_hostile_names.py

properties: $(STUBS) ## try every property with all its examples, of which `make test` takes a part
	HYPOTHESIS_PROFILE=full $(BIN)/python -m pytest -n 4 -q -m hypothesis

soak: $(STUBS) ## drive a central and its peers through 10,000 steps of chance beside a small model; a few minutes
	RELEVO_SOAK=full $(BIN)/python -m pytest -q --log-cli-level=INFO tests/soak

defences: $(STUBS) ## take each defence away in turn, and see the tests that show it fail; about ten minutes
	@$(BIN)/python -m tests.defences $(ONLY)

faults: $(STUBS) ## kill, stop and cut off real programs, many times; ONLY="liveness" chooses, QUICK=1 does each a few times
	@PYTHONPATH=.:generated $(BIN)/python -m tests.faults $(if $(QUICK),--quick) $(ONLY)

check: $(STUBS) ## what CI runs: format, lint, types, import rules, protos, tests, attacks, properties
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=.:generated $(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	@$(MAKE) --no-print-directory test-pythons
	@$(MAKE) --no-print-directory attacks
	@$(MAKE) --no-print-directory properties

format: $(VENV)/.done ## format code and protos
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format --write

clean: ## remove what the targets made
	rm -rf .venv .venv-* generated/relevo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
