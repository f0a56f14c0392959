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
NATIVE := $(VENV)/.native
NATIVE_SOURCES := $(shell find server/native/src server/native/rm_grpc_native -type f -not -name '*.pyc') \
  server/native/CMakeLists.txt server/native/pyproject.toml

.PHONY: setup demo demo-rl train-embedded clean
.PHONY: test test-clients test-gpu test-native-full test-native-core fuzz lint format
.PHONY: gen gen-clients baseline build/googleapis
.PHONY: bench bench-peers bench-text bench-gpu

demo: setup  ## score conversations with the embedded models, live
	@$(BIN)/rm-grpc demo

demo-rl: setup  ## a small reinforcement-learning run to its end, with TRL; draws the curve of its rewards
	@$(BIN)/python examples/rl_demo/train.py

test: setup  ## every test, with coverage
	@if command -v cmake > /dev/null; then $(MAKE) --no-print-directory test-native-core; \
	  else echo "== skipped: the tests of the encoder's core under sanitizers need cmake"; fi
	@echo "== running the tests (about half an hour on 2 cores)"
	@rm -f .coverage .coverage.*
	@$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report= $(ARGS)
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

# What the contract imports, and what its errors hold, as their Python package ships them.
build/googleapis: build/googleapis/google/rpc/error_details.proto build/googleapis/google/rpc/status.proto

build/googleapis/google/rpc/%.proto: $(READY)
	@mkdir -p $(@D)
	@cp $$($(BIN)/python -c "import google.rpc; print(list(google.rpc.__path__)[0])")/$*.proto $@

setup: $(READY) $(NATIVE)

$(READY): pyproject.toml constraints.txt requirements-trainers.txt
	@echo "== setting up $(VENV) (torch, transformers and the rest; 2 to 5 minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[server,dev]"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-trainers.txt
	@touch $@
	@echo "== $(VENV) is ready"

# The native text encoder, which needs a C++20 compiler; the server works without it.
$(NATIVE): $(READY) $(NATIVE_SOURCES)
	@echo "== building rm-grpc-native"
	@$(BIN)/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps ./server/native
	@touch $@

$(GEN)/.ready: constraints-gen.txt
	@echo "== setting up $(GEN) (the stub generator)"
	@$(PYTHON) -m venv $(GEN)
	@$(GEN)/bin/pip install --quiet --disable-pip-version-check -r constraints-gen.txt
	@touch $@

CLIENTS := typescript go cpp java
# Beside Node 20 with npm, which Debian 12 has too old.
CLIENT_PACKAGES := chromium protobuf-compiler
CLIENT_PACKAGES += cmake g++ pkg-config libprotobuf-dev protobuf-compiler-grpc libgrpc++-dev nlohmann-json3-dev doctest-dev
CLIENT_PACKAGES += golang-go golang-google-grpc-dev golang-github-golang-protobuf-1-5-dev protoc-gen-go-grpc \
  golang-google-protobuf-dev golang-google-genproto-dev
CLIENT_PACKAGES += default-jdk-headless libgrpc-java protobuf-compiler-grpc-java-plugin libprotobuf-java libnetty-java \
  libguava-java libperfmark-java libjsr305-java libgeronimo-annotation-1.3-spec-java libgoogle-gson-java libnetty-tcnative-java junit5

gen-clients: build/googleapis  ## the generated code of the clients in other languages, where it is committed
	@for client in $(CLIENTS); do $(MAKE) --no-print-directory -C client/$$client gen; done

test-clients: setup build/googleapis  ## every client against every conformance case; installs the toolchains; writes docs/conformance.md
	@if command -v apt-get > /dev/null && [ $$(id -u) = 0 ]; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(CLIENT_PACKAGES) > /dev/null; \
	  else echo "these packages of Debian, or what they are elsewhere, are needed: $(CLIENT_PACKAGES)"; fi
	@for client in $(CLIENTS); do for target in check-gen build test; do \
	  $(MAKE) --no-print-directory -C client/$$client $$target || exit 1; done; done
	PYTHONPATH=tests $(BIN)/python -m conformance --matrix docs/conformance.md $(ARGS)

bench: setup  ## speed on this machine, as ratios to what runs in the same minutes (about 30 minutes; QUICK=1 for a glance)
	@for name in limit prefix overhead modes; do \
	  $(BIN)/python -m benchmarks $$name $(if $(QUICK),--quick --out build/benchmarks/quick); done

bench-peers: setup  ## the same against other servers, each installed in a virtual environment of its own
	$(BIN)/python -m benchmarks peers $(ARGS)

test-native-full: setup  ## the native encoder against tokenizers on everything: 20,000 documents and 60,000 fuzzed ones a tokenizer
	PYTHONPATH=tests $(BIN)/python -m native.exact $(ARGS)

bench-text: setup  ## text to token ids, beside other tokenizer libraries in virtual environments of their own
	$(BIN)/python -m benchmarks text $(ARGS)

# These two run with the interpreter of a GPU machine, which has torch and transformers: GPU_PYTHON=python3.
bench-gpu:  ## tokens/s, TFLOP/s, idle fraction and prefix ratio on a GPU
	$(GPU_PYTHON) -m benchmarks gpu

test-gpu:  ## exactness and streams on a GPU
	PYTHONPATH=.:client:server:cli $(GPU_PYTHON) -m pytest -m gpu tests/gpu $(ARGS)

# Of these two the first needs cmake and a C++20 compiler, the second clang with its fuzzer runtime; no Python.
NATIVE_CORE := cmake -S server/native -DRM_GRPC_BINDINGS=OFF
# A build folder keeps the generator that it was made with.
NATIVE_GENERATOR = $(if $(wildcard $(1)/CMakeCache.txt),,$(if $(shell command -v ninja),-G Ninja))

test-native-core:  ## the tests of the encoder's C++ core, under sanitizers
	@echo "== building and running the tests of the encoder's core"
	@$(NATIVE_CORE) -B build/native-asan $(call NATIVE_GENERATOR,build/native-asan) -DRM_GRPC_TESTS=ON \
	  -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG="-O1 -g1" \
	  -DCMAKE_CXX_FLAGS="-fsanitize=address,undefined -fno-sanitize-recover=all -D_GLIBCXX_ASSERTIONS" > /dev/null
	@cmake --build build/native-asan --parallel
	@ctest --test-dir build/native-asan --output-on-failure --parallel 2

FUZZ_CXX ?= clang++
FUZZ_SECONDS ?= 60

fuzz:  ## fuzz the encoder's C++ core, FUZZ_SECONDS for each fuzzer; the corpora stay in build/fuzz
	@mkdir -p build/native-fuzz
	@echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' > build/native-fuzz/probe.cpp
	@$(FUZZ_CXX) -fsanitize=fuzzer,address,undefined build/native-fuzz/probe.cpp -o build/native-fuzz/probe 2> /dev/null || { \
	  echo "fuzzing needs clang and its fuzzer runtime: on Debian, apt-get install clang libclang-rt-dev"; \
	  echo "(another compiler: make fuzz FUZZ_CXX=clang++-18)"; exit 1; }
	@$(NATIVE_CORE) -B build/native-fuzz $(call NATIVE_GENERATOR,build/native-fuzz) -DRM_GRPC_FUZZ=ON \
	  -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG="-O1 -g1" -DCMAKE_CXX_COMPILER=$(FUZZ_CXX) > /dev/null
	@cmake --build build/native-fuzz --parallel
	@for fuzzer in fuzz_text fuzz_recipe; do \
	  mkdir -p build/fuzz/$$fuzzer && echo "== $$fuzzer for $(FUZZ_SECONDS) s" && \
	  build/native-fuzz/tests/$$fuzzer -max_total_time=$(FUZZ_SECONDS) -max_len=600 -len_control=10 -timeout=20 \
	    -print_final_stats=1 -artifact_prefix=build/fuzz/$$fuzzer- build/fuzz/$$fuzzer 2>&1 | \
	    grep -vE "^#.*(NEW|REDUCE|pulse|RELOAD)|NEW_FUNC"; done

train-embedded: setup  ## train the two embedded models anew (about 40 minutes on 2 cores)
	$(BIN)/python examples/arithmetic_models/train.py --out server/rm_grpc_server/defaults

clean:
	rm -rf $(VENV) $(GEN) build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache
