# One place for every command of this project: `make help` lists them.
#
# Works from a fresh Debian 12 with cargo, python3 with venv, make and a C compiler. What is
# slow leaves a stamp in .venv/.stamps and is not repeated until its inputs change.
# CARGO_TARGET_DIR is respected.

PYTHON ?= python3
SEEDS ?= 100000
FROM ?= 0
BENCH_ARGS ?=
PYTEST_ARGS ?=
NETLAB_ARGS ?= --seed 1

VENV := $(CURDIR)/.venv
STAMPS := $(VENV)/.stamps
BIN := $(VENV)/bin
IN_VENV := VIRTUAL_ENV=$(VENV) PATH="$(BIN):$$PATH"

RUST_SOURCES := $(shell find crates -name '*.rs' -o -name 'Cargo.toml') Cargo.toml Cargo.lock
PYTHON_DIRS := python tests benches examples
# The extension module is linked by maturin; cargo test would look for libpython.
RUST_TESTED := --workspace --exclude taskloom-py

.DEFAULT_GOAL := help
.PHONY: help build demo test test-rust test-python test-dask test-netlab test-planted netlab-tools bench \
	bench-scale lint lint-rust lint-python lint-dependencies wasm docs simulate format clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMPS)/venv:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	mkdir -p $(STAMPS)
	touch $@

$(STAMPS)/demo: requirements/demo.txt requirements/constraints.txt | $(STAMPS)/venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/demo.txt
	touch $@

$(STAMPS)/dev: requirements/dev.txt requirements/constraints.txt | $(STAMPS)/venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	touch $@

# Peers that do not install here are left out of the table, which says so.
$(STAMPS)/bench: requirements/bench.txt requirements/constraints.txt | $(STAMPS)/dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/bench.txt \
		|| echo "make bench: some peers did not install; their columns stay empty"
	touch $@

$(STAMPS)/build: $(RUST_SOURCES) pyproject.toml | $(STAMPS)/demo
	$(IN_VENV) maturin develop --release --quiet
	touch $@

build: $(STAMPS)/build ## release build, installed into .venv/

demo: build ## the main job on a local cluster, each step checked
	$(BIN)/python examples/demo.py

test: test-rust test-python test-dask ## everything that must hold before a change is merged
	@-$(MAKE) --no-print-directory netlab-tools
	@if why=$$($(BIN)/python -m tests.netlab --check 2>&1); then \
		$(MAKE) --no-print-directory test-netlab; \
	else \
		echo "make test: NOT RUN HERE: make test-netlab: $$why"; \
		echo "make test: everything else was run"; \
	fi

test-rust: ## unit, property and simulator tests of the crates
	@if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run $(RUST_TESTED) --no-fail-fast && cargo test $(RUST_TESTED) --doc --quiet; \
	else \
		cargo test $(RUST_TESTED) --no-fail-fast; \
	fi
	@$(MAKE) --no-print-directory simulate SEEDS=20000
	@$(MAKE) --no-print-directory test-planted

test-planted: ## the simulator finds every fault that is planted, and nothing without it
	cargo test --release -p taskloom-sim --features planted --test planted

test-python: build $(STAMPS)/dev ## the Python API on real clusters, the examples, the documents
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-dask: build $(STAMPS)/dev ## dask's own tests on taskloom; the short list, or all with DASK_TESTS=all
	$(BIN)/python tests/dask/run.py $(if $(filter all,$(DASK_TESTS)),,--subset)

test-netlab: build $(STAMPS)/dev netlab-tools ## scheduler, workers, client as hosts, under real faults
	$(BIN)/python -m tests.netlab.parting
	$(BIN)/python -m tests.netlab $(NETLAB_ARGS)

netlab-tools: # what the laboratory lacks is installed where that is possible
	@missing=; command -v nft >/dev/null || missing="nftables"; \
	command -v ip >/dev/null && command -v tc >/dev/null || missing="$$missing iproute2"; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		install="apt-get install -y -qq --no-install-recommends $$missing"; \
		$$install >/dev/null || { apt-get update -qq && $$install >/dev/null; }; \
	fi

bench: build $(STAMPS)/bench ## the table of docs/benchmarks.md; BENCH_ARGS="--quick" for a short look
	$(BIN)/python -m benches $(BENCH_ARGS)

bench-scale: $(STAMPS)/dev ## thousands of hollow workers against the scheduler
	$(BIN)/python -m benches.scale $(BENCH_ARGS)

lint: lint-rust lint-python lint-dependencies ## formatting, clippy, ruff, mypy, licences

lint-rust:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	@$(MAKE) --no-print-directory wasm

lint-python: $(STAMPS)/dev
	$(BIN)/ruff check $(PYTHON_DIRS)
	$(BIN)/ruff format --check $(PYTHON_DIRS)
	$(BIN)/mypy

lint-dependencies:
	@if cargo deny --version >/dev/null 2>&1; then \
		cargo deny --offline check bans licenses sources; \
	else \
		echo "lint: cargo-deny is not installed, deny.toml was not checked (cargo install cargo-deny)"; \
	fi

wasm: # the rules must build where there is no operating system
	@if rustup target list --installed 2>/dev/null | grep -q wasm32-unknown-unknown; then \
		cargo check --quiet --target wasm32-unknown-unknown -p taskloom-core; \
	else \
		echo "lint: target wasm32-unknown-unknown is not installed, purity is checked by tests only"; \
	fi

docs: build $(STAMPS)/dev ## API pages of the crates and of the Python package, offline
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet
	$(BIN)/pdoc --docformat numpy --output-directory docs/_build/python \
		taskloom taskloom.compat taskloom.distributed taskloom.errors taskloom.joblib taskloom.plugin
	@echo "Python: docs/_build/python/index.html   Rust: $${CARGO_TARGET_DIR:-target}/doc/taskloom_core"

simulate: ## many seeds of the simulator: SEEDS=1000000 FROM=0, or one again: SEED=4711
	cargo run --release --quiet -p taskloom-sim --bin simulate -- \
		$(if $(SEED),--seed $(SEED) --shrink,--from $(FROM) --seeds $(SEEDS))

format: $(STAMPS)/dev ## let rustfmt and ruff write
	cargo fmt --all
	$(BIN)/ruff check --fix --quiet $(PYTHON_DIRS)
	$(BIN)/ruff format --quiet $(PYTHON_DIRS)

clean: ## remove what make has built (keeps downloaded packages)
	rm -rf $(STAMPS) docs/_build
	cargo clean
