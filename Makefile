# Everything is installed into $(VENV); nothing outside this folder is touched.

PYTHON ?= python3
VENV ?= .venv
CONFORMANCE ?= ../shared/conformance
# The modules of CPython's suite which must pass whole. `make conformance MODULES=` runs every one.
MODULES ?= test_tasks,test_futures,test_futures2,test_eager_task_factory,test_free_threading,$\
test_graph,test_context,test_pep492,test_waitfor,test_taskgroups,test_timeouts,test_threads,$\
test_staggered,test_runners,test_locks,test_queues,test_events,test_base_events,test_unix_events,$\
test_sock_lowlevel,test_sendfile,test_server,test_buffered_proto,test_ssl,test_sslproto,$\
test_streams,test_subprocess

BIN := $(VENV)/bin
# One folder of build products per Python, so that changing Pythons rebuilds nothing.
TAG := $(shell $(PYTHON) -c 'import sys; print(sys.implementation.cache_tag)' 2>/dev/null)
ifeq ($(TAG),)
$(error $(PYTHON) does not run; say which one to use: make PYTHON=/path/to/python3)
endif
BUILD := $(CURDIR)/target/$(TAG)
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

say = @printf '\n\033[1m==> %s\033[0m\n' "$(1)"

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  variables: PYTHON=$(PYTHON) VENV=$(VENV) CONFORMANCE=$(CONFORMANCE) MODULES=..."

.PHONY: run
run: release ## build the optimised extension and take the tour
	$(call say,the tour: the example programs and then the echo server under load)
	@$(BIN)/python tools/tour.py

.PHONY: test
test: lint develop $(BIN)/.programs ## everything that must pass: Rust, Python, conformance, seed programs, lint
	$(call say,Rust tests)
	@cargo test --workspace
	$(call say,Python tests)
	@tools/install_servers.sh
	@$(BIN)/python -m pytest
	$(call say,a short soak: connections that break off in every way)
	@$(BIN)/python -m tools.soak --seconds 20 --connections 4000
	@$(MAKE) --no-print-directory kit-conformance kit-seeds
	$(call say,everything passes on $(TAG))

.PHONY: soak
soak: release ## two minutes of 10,000 connections that break off in every way, with every byte checked
	$(call say,the soak)
	@$(BIN)/python -m tools.soak --seconds 120 --connections 10000

# Divided between the targets, in seconds.
FUZZ_SECONDS ?= 60
.PHONY: fuzz
fuzz: ## a minute of inputs that nobody thought of (FUZZ_SECONDS= for longer)
	$(call say,fuzzing)
	@cargo run --release --quiet -p ioxide-fuzz -- --seconds $(FUZZ_SECONDS)

.PHONY: bench
bench: release $(BIN)/.bench ## measure beside asyncio and every installed peer
	$(call say,benchmarks; the table goes to docs/performance.md)
	@$(BIN)/python benches/run.py --write docs/performance.md

.PHONY: conformance
conformance: develop kit-conformance ## CPython's own test suite (MODULES= for all of it)

.PHONY: seeds
seeds: develop kit-seeds ## the programs of the seed documents, in each way of using ioxide

.PHONY: lint
lint: $(BIN)/.dev ## formats and lints of both languages, and the type stubs
	$(call say,lint and format)
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --quiet -- -D warnings
	@PYO3_CONFIG_FILE=$(CURDIR)/tools/free-threaded.txt CARGO_TARGET_DIR=target/free-threaded \
		cargo clippy --package ioxide-python --quiet -- -D warnings
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy --no-error-summary
	@echo "clean"

.PHONY: format
format: $(BIN)/.dev ## rewrite the sources in their format
	@cargo fmt --all
	@$(BIN)/ruff check --quiet --fix
	@$(BIN)/ruff format

.PHONY: develop
develop: $(BIN)/.run ## build the extension with its assertions into the virtual environment
	$(call say,building the extension for $(TAG) (development))
	@CARGO_TARGET_DIR=$(BUILD) VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --quiet

.PHONY: release
release: $(BIN)/.run ## build the optimised extension into the virtual environment
	$(call say,building the extension for $(TAG) (optimised; the first time takes a minute))
	@CARGO_TARGET_DIR=$(BUILD) VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --quiet

.PHONY: clean
clean: ## remove what was built and installed
	rm -rf target .venv .venv-* python/ioxide/_ioxide.*.so

# The kit lives beside the repository; a checkout without it can still run the rest.
.PHONY: kit-conformance kit-seeds
ifeq ($(wildcard $(CONFORMANCE)/run.py),)
kit-conformance kit-seeds:
	@echo "skipped: there is no conformance kit at $(CONFORMANCE) (set CONFORMANCE=...)"
else
kit-conformance:
	$(call say,conformance on $(TAG))
	@$(BIN)/python $(CONFORMANCE)/run.py --impl ioxide --jobs 2 --list-failures \
		$(if $(MODULES),--module $(MODULES))
kit-seeds:
	$(call say,the seed programs on $(TAG))
	@$(BIN)/python $(CONFORMANCE)/seeds.py --impl ioxide
endif

# A stamp per list of requirements: installing again only when the list changed.
$(BIN)/python:
	$(call say,making $(VENV) with $(PYTHON))
	@$(PYTHON) -m venv $(VENV)

$(BIN)/.run: requirements/run.txt | $(BIN)/python
	$(call say,installing $<)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(BIN)/.dev: requirements/dev.txt requirements/run.txt | $(BIN)/python
	$(call say,installing $<)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@ $(BIN)/.run

# A library without a build for this Python is no reason to stop: its tests are skipped.
$(BIN)/.programs: requirements/programs.txt | $(BIN)/python
	$(call say,installing $<)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: -r $< \
		|| for library in $$(grep -v '^#' $<); do \
			$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: \
			"$$library" || echo "left out: $$library"; done
	@touch $@

# A peer without a build for this Python is no reason to stop.
$(BIN)/.bench: requirements/bench.txt | $(BIN)/python
	$(call say,installing the peers)
	@for peer in $$(grep -v '^#' $<); do \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: $$peer \
		|| echo "left out: $$peer"; done
	@touch $@
