# What can be done here. It takes Python (with pip and venv) and make, and no network but pip's.
# Written for POSIX make, so that the make that is already there will do.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

# One version, so that a comparison that failed today would have failed yesterday.
TORCH = torch==2.13.0
TRANSFORMERS = transformers==5.23.0

# Of the tests: one process for each core, up to four, each with one thread. They start a hundred
# programs: what Python has compiled is kept, also where containers are told not to keep it.
SPREAD = -n auto --maxprocesses 4
ONCE = OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=

PY = $(VENV)/bin/python
PIP = $(PY) -m pip -qq --disable-pip-version-check

.PHONY: help train test test-torch test-slow lint format fuzz bench presets oracle ops notebooks clean

help: ## list the targets (ARGS="..." is handed on to the command that a target runs)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

train: $(VENV)/.viz ## train the GPT and sample from it
	@$(PY) examples/train_gpt.py $(ARGS)

test: $(VENV)/.test ## run the tests, but for the comparisons with PyTorch
	@$(ONCE) $(PY) -m pytest $(SPREAD) -m "not torch and not slow" $(ARGS)

test-torch: $(VENV)/.torch ## compare with PyTorch, which is installed for it
	@$(ONCE) $(PY) -m pytest $(SPREAD) -m "torch and not slow" $(ARGS)

test-slow: $(VENV)/.test ## run the long checks that `make test` leaves out
	@$(PY) -m pytest -m slow $(ARGS)

fuzz: $(VENV)/.torch ## run drawn code on PyTorch and tensorgrad (ARGS="--cases 20000 --seed 0")
	@$(PY) -m tests.fuzz $(ARGS)

lint: $(VENV)/.dev ## check style, formatting and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: $(VENV)/.dev ## put the source into its format
	@$(PY) -m ruff check --fix --exit-zero .
	@$(PY) -m ruff format .

bench: $(VENV)/.torch ## compare speed with PyTorch
	@$(PY) -m benchmarks $(ARGS)

presets: $(VENV)/.viz ## measure what the presets do, for `train --check` (ARGS="default --seeds 5")
	@$(PY) -m benchmarks.presets $(ARGS)

oracle: $(VENV)/.torch ## write the frozen oracles again, with PyTorch and transformers
	@$(PY) tests/make_oracle.py $(ARGS)
	@$(PY) tests/make_gpt2_oracle.py

ops: $(VENV)/.test ## write docs/ops.md, the table of all ops, again
	@$(PY) docs/make_ops.py

notebooks: $(VENV)/.test ## run the notebooks and write what they show into them
	@OMP_NUM_THREADS=1 $(PY) tests/make_notebooks.py $(ARGS)

clean: ## remove caches and build products (the environment and runs/ stay)
	@rm -rf build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	@find . -path './$(VENV)' -prune -o -name __pycache__ -prune -exec rm -rf {} +

# Each stamp says that an environment with these extras is installed. All share one environment;
# they are renewed when pyproject.toml changes.

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 10) or sys.exit("tensorgrad needs Python 3.10 or newer and $(PYTHON) is %d.%d: try make PYTHON=python3.12" % v[:2])'
	@echo "creating the environment $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { echo "no venv module: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }
	@$(PIP) install 'pip>=21.3' # older ones cannot install a pyproject.toml in place
	@touch $@

$(VENV)/.viz: $(VENV)/.python pyproject.toml
	@echo "installing tensorgrad-gpt[viz,fast,mpi] into $(VENV)"
	@$(PIP) install --editable '.[viz,fast,mpi]'
	@touch $@

$(VENV)/.test: $(VENV)/.python pyproject.toml
	@echo "installing tensorgrad-gpt[viz,fast,test] into $(VENV)"
	@$(PIP) install --editable '.[viz,fast,test]'
	@touch $@

$(VENV)/.dev: $(VENV)/.python pyproject.toml
	@echo "installing tensorgrad-gpt[viz,dev] into $(VENV)"
	@$(PIP) install --editable '.[viz,dev]'
	@touch $@

$(VENV)/.torch: $(VENV)/.test
	@echo "installing $(TORCH) and $(TRANSFORMERS) into $(VENV)"
	@$(PIP) install '$(TORCH)' '$(TRANSFORMERS)'
	@touch $@
