# What people and CI call. Every target sets up what it needs.

SHELL := /bin/bash
.SHELLFLAGS := -eo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
GEN := .venv-gen
PROTOS := $(wildcard protos/rm_grpc/v1/*.proto)
SOURCES := rm_grpc client server cli tests examples benchmarks
GPU_PYTHON ?= python3
READY := $(VENV)/.ready

.PHONY: demo demo-rl test lint format gen setup clean baseline train-embedded bench bench-peers bench-gpu test-gpu

demo: setup  ## score conversations with the embedded models, live
	@$(BIN)/rm-grpc demo

demo-rl: setup  ## a small reinforcement-learning run to its end, with TRL; draws the curve of its rewards
	@$(BIN)/python examples/rl_demo/train.py

test: setup  ## every test, with coverage
	@echo "== running the tests (about 30 minutes on 2 cores)"
	@rm -f .coverage .coverage.*
	@$(BIN)/python -m pytest --cov --cov-report= $(ARGS)
	@$(BIN)/coverage report

lint: setup $(GEN)/.ready build/googleapis  ## style, types, layers, contract, generated code
	@echo "== ruff";          $(BIN)/ruff format --check --quiet $(SOURCES) && $(BIN)/ruff check --quiet $(SOURCES)
	@echo "== mypy";          $(BIN)/mypy
	@echo "== import-linter"; $(BIN)/lint-imports --no-cache | tail -n 12
	@echo "== buf";           $(BIN)/buf format --diff --exit-code protos && $(BIN)/buf lint --path protos/rm_grpc && \
	                          $(BIN)/buf build -o build/now.binpb && $(BIN)/buf breaking build/now.binpb --against protos/released.binpb
	@echo "== generated code"; rm -rf build/gen && mkdir -p build/gen && $(call generate,build/gen) && \
	                          for file in build/gen/rm_grpc/v1/*; do \
	                            diff -u rm_grpc/v1/$$(basename $$file) $$file || { echo "stale: run 'make gen'"; exit 1; }; done
	@echo "== lint passed"

format: setup
	$(BIN)/ruff format $(SOURCES) && $(BIN)/ruff check --fix $(SOURCES) && $(BIN)/buf format -w protos

# Stubs come from an old generator, so that they import on protobuf 5.29 as well as on 7.
gen: $(GEN)/.ready
	$(call generate,.)

define generate
$(GEN)/bin/python -m grpc_tools.protoc -Iprotos \
  -I$$($(GEN)/bin/python -c "import google.rpc; print(list(google.rpc.__path__)[0].removesuffix('google/rpc'))") \
  --plugin=protoc-gen-mypy=$(GEN)/bin/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(GEN)/bin/protoc-gen-mypy_grpc \
  --python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) $(PROTOS)
endef

# The contract that `buf breaking` holds later ones against; renewed at each release.
baseline: setup build/googleapis
	$(BIN)/buf build -o protos/released.binpb

# google/rpc/status.proto, which the contract imports, as its Python package ships it.
build/googleapis: $(READY)
	@mkdir -p $@/google/rpc
	@cp $$($(BIN)/python -c "import google.rpc; print(list(google.rpc.__path__)[0])")/status.proto $@/google/rpc/

setup: $(READY)

$(READY): pyproject.toml constraints.txt requirements-trainers.txt
	@echo "== setting up $(VENV) (torch, transformers and the rest; 2 to 5 minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[server,dev]"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-trainers.txt
	@touch $@
	@echo "== $(VENV) is ready"

$(GEN)/.ready: constraints-gen.txt
	@echo "== setting up $(GEN) (the stub generator)"
	@$(PYTHON) -m venv $(GEN)
	@$(GEN)/bin/pip install --quiet --disable-pip-version-check -r constraints-gen.txt
	@touch $@

bench: setup  ## speed on this machine, as ratios to what runs in the same minutes (about 30 minutes; QUICK=1 for a glance)
	@for name in limit prefix overhead modes; do \
	  $(BIN)/python -m benchmarks $$name $(if $(QUICK),--quick --out build/benchmarks/quick); done

bench-peers: setup  ## the same against other servers, each installed in a virtual environment of its own
	$(BIN)/python -m benchmarks peers $(ARGS)

# These two run with the interpreter of a GPU machine, which has torch and transformers: GPU_PYTHON=python3.
bench-gpu:  ## tokens/s, TFLOP/s, idle fraction and prefix ratio on a GPU
	$(GPU_PYTHON) -m benchmarks gpu

test-gpu:  ## exactness and streams on a GPU
	PYTHONPATH=.:client:server:cli $(GPU_PYTHON) -m pytest -m gpu tests/gpu $(ARGS)

train-embedded: setup  ## train the two embedded models anew (about 40 minutes on 2 cores)
	$(BIN)/python examples/arithmetic_models/train.py --out server/rm_grpc_server/defaults

clean:
	rm -rf $(VENV) $(GEN) build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache
