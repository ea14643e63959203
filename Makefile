# Everything a person runs, and CI runs the same. `make help` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.headrace-ready
STUBS := protos/headrace/v1
CODE := protos router services tests deploy
# Tests at once: they mostly wait, for leases and for processes, so more than there are cores. 0 is one after another.
JOBS ?= 4

# Tests and proofs start processes while gRPC runs; its own handling of forks can crash such a child at its start.
export GRPC_ENABLE_FORK_SUPPORT := 0

.DEFAULT_GOAL := help
.PHONY: help setup demo test check stubs bench prove prove-lifecycle prove-scheduler prove-models prove-observability chaos soak clean model

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv and install Headrace with its development tools

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Headrace needs Python 3.11 or newer; set PYTHON=python3.x to choose one"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "No virtual environment can be made; on Debian: apt install python3-venv"; exit 1; }
	@echo "Installing Headrace and its development tools into $(VENV); this takes a minute, once"
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

model: $(STAMP) ## Pull the demo's model, if it is not there
	@$(BIN)/headrace model pull smollm2

demo: $(STAMP) ## Stream a real model's answers through the whole mesh
	@$(BIN)/headrace demo

test: $(STAMP) model ## Run the tests: real nats-server, real gRPC, real model
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

check: $(STAMP) ## Format, lint, strict types, import rules, proto lint, stub drift
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf lint
	$(BIN)/python -m pip check
	@$(MAKE) --no-print-directory drift

.PHONY: drift
drift: $(STAMP)
	@made=$$(mktemp -d) && trap 'rm -rf "$$made"' EXIT && $(call generate,$$made) \
		&& diff -rq -x '*.proto' -x '__*' "$$made/headrace/v1" $(STUBS) \
		|| { echo "The stubs do not follow from the protos: run 'make stubs'"; exit 1; }
	@echo "The stubs follow from the protos"

stubs: $(STAMP) ## Generate the stubs anew, after a change in protos/
	$(call generate,protos)

# Messages of all protos; services of those that have some.
define generate
$(BIN)/python -m grpc_tools.protoc -I protos --python_out=$(1) --mypy_out=quiet:$(1) \
	--plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy $(STUBS)/*.proto \
&& $(BIN)/python -m grpc_tools.protoc -I protos --grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) \
	--plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc $(STUBS)/admin.proto $(STUBS)/inference.proto $(STUBS)/router.proto
endef

bench: $(STAMP) model ## Run the benchmark; figures go to out/
	$(BIN)/headrace bench --engine fake --clients 64 --lanes 32 --requests 384 --no-direct --json out/bench-fake.json
	$(BIN)/headrace bench --clients 1,8,32 --direct-batches 2,4 --json out/bench.json

prove: $(STAMP) model ## Measure the README's claims on this machine, against what is required
	$(BIN)/python -m tests.prove.prove $(ARGS)

prove-lifecycle: $(STAMP) model ## Measure what happens to requests when processes die
	$(BIN)/python -m tests.prove.prove --group lifecycle $(ARGS)

prove-scheduler: $(STAMP) model ## Measure who runs what, and when: throughput, fairness, preemption
	$(BIN)/python -m tests.prove.prove --group scheduler $(ARGS)

prove-models: $(STAMP) model ## Measure that models take what is planned for them, and that versions change unnoticed
	$(BIN)/python -m tests.prove.prove --group models $(ARGS)

prove-observability: $(STAMP) ## Measure what a request's trace says of its cause, and what tracing costs
	$(BIN)/python -m tests.prove.prove --group observability $(ARGS)

prove-%: $(STAMP) model ## Measure one part of them
	$(BIN)/python -m tests.prove.prove --part $*

chaos: $(STAMP) ## Kill processes under load by a seeded schedule, and check that nothing is lost; ARGS="--help"
	$(BIN)/python -m tests.chaos $(ARGS)

soak: $(STAMP) ## Hold a thousand streams for five minutes, and check that nothing grows; ARGS="--help"
	$(BIN)/python -m tests.chaos.soak $(ARGS)

clean: ## Remove the virtual environment and all that tools left
	rm -rf $(VENV) out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
