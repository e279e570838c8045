# Only the targets that `make help` lists are supported. None needs root but install and uninstall.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Interpreter to make .venv with, where there is none yet; empty = the newest found.
PYTHON ?=
# What pytest gets besides its configuration, as in PYTEST_ARGS="tests/host -x".
PYTEST_ARGS ?=
# Tests run in so many processes (pytest-xdist); PARALLEL= has them run one by one, as `-s` and `--pdb` need it.
# One more than there are CPUs, since many tests wait. Helpers get only the time that other tests leave, so
# what fails there is run once more, one by one.
PARALLEL ?= --numprocesses $(shell expr $$(nproc) + 1) --maxprocesses 4 --dist worksteal
# What pytest gets for the checks in the virtual machine, as in VM_ARGS=-v.
VM_ARGS ?=
# Where `make install` puts programs and units, and what stands for "/" while a package is made.
PREFIX ?= /usr/local
DESTDIR ?=
# What `make bench-before` compares with.
COMMIT ?= HEAD~1
# What the bench of interference gets, as in BENCH_ARGS="--rows 1,3 --repeat 3".
BENCH_ARGS ?=
# What the comparison of speed with other programs gets, as in PEERS_ARGS="--only copy,fill --repeat 9".
PEERS_ARGS ?=
# What the comparison with other tools gets.
AGAINST_ARGS ?=
# What the fault test gets, as in FAULT_ARGS="--each 50 --seed 7".
FAULT_ARGS ?=

BIN := .venv/bin

.PHONY: help setup check test demo bench bench-before bench-interference bench-foreground bench-peers fault-test against vm-test install uninstall deb dist dist-check check-pythons manual docs proto lint fmt types clean

help: ## list the supported targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' Makefile

setup: ## make .venv with everything in it
	@PYTHON='$(PYTHON)' tools/setup.sh

check: lint types ## lint, types and the fast tests; below two minutes (PYTEST_ARGS="..." to choose)
	@$(BIN)/python -m pytest $(PARALLEL) -m 'not slow and not alone' $(PYTEST_ARGS)

test: setup ## run all tests (PYTEST_ARGS="..." to choose)
	@$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS) || \
	{ echo "test: what failed beside other tests must fail alone as well"; \
	  $(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(PYTEST_ARGS); }

demo: setup ## start a private daemon and run real jobs on it
	@$(BIN)/python -m tools.demo

bench: setup ## print the figures of this machine
	@$(BIN)/python -m tests.bench

bench-before: setup ## the cost of a job and of a chunk against an earlier commit, 4 minutes (COMMIT=main~20)
	@$(BIN)/python -m tests.bench.before $(COMMIT)

bench-interference: setup ## what others lose beside our helpers, and what jobs get; 40 minutes (BENCH_ARGS="--rows N")
	@$(BIN)/python -m tests.bench.interference $(BENCH_ARGS)

bench-foreground: setup ## a web server beside a detached job, and beside plain processes
	@$(BIN)/python -m tests.bench.interference --rows 8 --picture foreground.png $(BENCH_ARGS)

bench-peers: setup ## speed beside cp, sha256sum, pigz, loky and others; 30 minutes (PEERS_ARGS="--only ROW")
	@$(BIN)/python -m tests.bench.peers $(PEERS_ARGS)

fault-test: setup ## run 200 jobs of each function while workers are killed; 20 minutes (FAULT_ARGS="--jobs 300")
	@$(BIN)/python -m tests.fault $(FAULT_ARGS)

proto: setup ## generate client/ktask/v1 from proto
	@$(BIN)/python tools/generate.py

lint: setup ## check style, formatting, the contract and the floors
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@BUF_CACHE_DIR='$(CURDIR)/.cache/buf' $(BIN)/buf lint proto
	@$(BIN)/lint-imports --no-logo --no-cache

fmt: setup ## format the code
	@$(BIN)/ruff check --fix --select I
	@$(BIN)/ruff format

types: setup ## check the types
	@$(BIN)/mypy

against: setup ## every function against another tool, on files of many kinds (AGAINST_ARGS="--sparse 64")
	@$(BIN)/python -m tests.against $(AGAINST_ARGS)

vm-test: setup ## run the checks under systemd, in a virtual machine with two nodes (VM_ARGS for pytest)
	@tools/deb.sh
	@KTASKD_VM_TEST=1 $(BIN)/python -m pytest -o faulthandler_timeout=0 tests/vm $(VM_ARGS)

install: setup ## install daemon, client and units below PREFIX (/usr/local), in DESTDIR
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' tools/install.sh install

uninstall: ## remove what install has made
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' tools/install.sh uninstall

deb: setup ## build dist/ktaskd_VERSION_ARCH.deb with all that it needs
	@tools/deb.sh

dist: setup ## build the source distribution and the wheel into dist, and check them
	@tools/dist.sh

dist-check: setup ## the same, and run the wheel in an empty environment (needs PyPI)
	@tools/dist.sh check

check-pythons: setup ## the fast tests on each Python from 3.11 to 3.14 that is installed (needs PyPI)
	@tools/pythons.sh $(PYTEST_ARGS)

manual: setup ## write man pages, completions and the generated pages of the docs again
	@$(BIN)/python -m tools.manual

docs: setup ## build the documentation into build/site, and check its links (needs PyPI the first time)
	@$(BIN)/python -c 'import material' 2>/dev/null || $(BIN)/python -m pip --quiet --disable-pip-version-check install 'mkdocs-material>=9.6,<10'
	@mkdir -p build
	@# With --quiet it would count no warnings, and --strict fails because of these.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict 2>build/docs.log || { cat build/docs.log >&2; exit 1; }
	@echo "docs: build/site/index.html"

clean: ## remove .venv, caches and build results
	@rm -rf .venv build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
