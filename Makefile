# Every target does its own set-up: `make test` works on a fresh clone.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
PEERS := .venv-peers/bin
SHELF = $(lastword $(sort $(wildcard reports/results/2*)))

.PHONY: install demo slurm-demo test slow lint format campaign bench bench-peers statistics golden lock docs proof

install: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml $(wildcard kernels/*.cpp kernels/*.h kernels/build.py)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python kernels/build.py
	touch $@

demo: install  ## train four algorithms on two tasks, ten seeds each, and make the report
	$(BIN)/ascent sweep demo
	$(BIN)/ascent report demo

slurm-demo: install  ## the sweep `demo` on a real SLURM cluster that lives on this machine for a few minutes
	$(BIN)/python -m tests.slurm.demo

test: install  ## the default tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

slow: install  ## long learning checks, two hundred kills, full episodes of every twin, algorithms without kernels
	$(BIN)/python -m pytest -m slow -n 2 -rP
	ASCENT_KERNELS=off $(BIN)/python -m pytest -n 2 --dist worksteal tests/algorithms

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m tests.typecheck

format: install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

campaign: install  ## go on with the results on the shelf, at the lowest priority: JOBS processes, default 1
	nice -n 19 $(BIN)/ascent results campaign --jobs $(or $(JOBS),1)

proof: install  ## verify the results on the shelf: all policies, all first steps, one cell of each system whole
	mkdir -p build
	$(BIN)/ascent check $(SHELF) > build/proof.log || { cat build/proof.log; exit 1; }
	for depth in policy start "whole --cheapest"; do \
		$(BIN)/ascent results prove --run-recorded-code --depth $$depth >> build/proof.log || exit 1; \
		tail -n 1 build/proof.log; \
	done
	cp build/proof.log $(SHELF)/proof.log && $(BIN)/ascent results build

bench: install  ## speed against Stable-Baselines3, and of the MuJoCo twins against the bare simulator
	$(BIN)/python -m tests.benchmarks

bench-peers: install .venv-peers/installed  ## speed against SBX, rejax and EnvPool, in an environment of their own
	$(PEERS)/python -m tests.benchmarks.peers

.venv-peers/installed: requirements.lock tests/benchmarks/peers.lock pyproject.toml
	$(PYTHON) -m venv .venv-peers
	$(PEERS)/pip install --quiet --disable-pip-version-check -r requirements.lock -r tests/benchmarks/peers.lock
	$(PEERS)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

statistics: install  ## coverage of every interval and false-alarm rate of every test, by simulation
	$(BIN)/python -m pytest -q -s -m "slow or not slow" tests/reports/statistics/test_coverage.py \
		tests/reports/statistics/test_edges.py tests/reports/statistics/test_stages.py

golden: install  ## record the golden digests of this platform, after a deliberate change of results
	$(BIN)/python -m tests.algorithms.golden

docs: install  ## the documentation site, in build/site
	SOURCE_DATE_EPOCH=$(shell git log -1 --format=%ct) NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lock:  ## write requirements.lock anew from pyproject.toml's ranges
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet torch==2.13.0 && .venv-lock/bin/pip install --quiet -e .[dev]
	.venv-lock/bin/pip freeze --all --exclude-editable --exclude pip | sed 's/+cpu//' > requirements.lock
	rm -rf .venv-lock
