# Everything a person does with this repository, on a machine that has only Python (3.10 or newer) and make.
#
#   make demo              learn a vocabulary and a model in MINUTES (default 10), show what it knows
#   make test              the default test suite
#   make test-reference    compare with PyTorch, transformers, tokenizers and SciPy (a large install)
#   make test-versions     the default suite on Python 3.10 with the oldest NumPy, and on 3.13 with the newest
#   make verify            prove every gradient, write docs/certificate.md (five minutes)
#   make zoo               inject every bug of the zoo, measure it, see which tests catch it, write docs/bug-zoo.md (half an hour)
#   make mutants           inject what is new in the zoo and 600 mechanical mutants, write the mutation score, docs/mutants.md
#   make reliability       break trainings on purpose, count how often every promise held, write docs/reliability.md (half an hour)
#   make check             format, lint, types, import contract, tests
#   make bench             speed and memory beside PyTorch
#   make figures           write the measured figures of docs/results/ into README and documentation
#   make docs              the documentation, in docs/_build/html
#   make clean             remove the environment and everything built; runs/ stays
#
# PYTHON=python3.12 chooses the interpreter, VENV=path the environment. On Linux, PyTorch's CPU build is far smaller:
# make test-reference TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
VENV ?= .venv
MINUTES ?= 10
TORCH_INDEX ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo test test-reference test-versions verify zoo mutants reliability check bench figures docs clean

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.core
	$(BIN)/mini-bert demo --minutes $(MINUTES)

test: $(VENV)/.test
	$(PYTEST) -m "not (reference or data or slow or nightly)"

test-reference: $(VENV)/.reference
	$(PYTEST) -m "reference and not (data or nightly)"

test-versions:
	$(MAKE) .venv-oldest/.test PYTHON=python3.10 VENV=.venv-oldest
	.venv-oldest/bin/python -m pip --disable-pip-version-check --quiet install numpy==2.2.0
	$(MAKE) test VENV=.venv-oldest
	$(MAKE) test PYTHON=python3.13 VENV=.venv-newest

verify: $(VENV)/.reference
	$(BIN)/mini-bert verify --out docs

zoo: $(VENV)/.reference
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m mini_bert.verification.bugs.hunt

mutants: $(VENV)/.reference
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m mini_bert.verification.bugs.hunt --changed
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m mini_bert.verification.mutants

reliability: $(VENV)/.reference
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m mini_bert.verification.reliability

check: $(VENV)/.dev $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

bench: $(VENV)/.reference
	$(BIN)/mini-bert bench --against torch --out docs/results
	$(MAKE) figures

figures: $(VENV)/.core
	$(BIN)/python docs/figures.py

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

clean:
	rm -rf $(VENV) build dist docs/_build .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environment: made once, installed again when pyproject.toml changes ---------------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "make: $(PYTHON) is missing or older than 3.10. Name another one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
	  echo "make: $(PYTHON) cannot make environments: its modules venv and ensurepip are missing."; \
	  echo "make: on Debian and Ubuntu: apt install python3-venv. Or name another one: make PYTHON=python3.12"; exit 1; }
	@echo "Making an environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.core: pyproject.toml | $(BIN)/python
	@echo "Installing Mini-BERT: NumPy, safetensors, pydantic and a few more, about 75 MB"
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.core
	@echo "Installing pytest and hypothesis"
	@$(PIP) install --editable ".[test]"
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	@echo "Installing ruff, mypy, import-linter and pre-commit"
	@$(PIP) install --editable ".[dev]"
	@touch $@

$(VENV)/.docs: $(VENV)/.core
	@echo "Installing Sphinx"
	@$(PIP) install --editable ".[docs]"
	@touch $@

$(VENV)/.reference: $(VENV)/.test
	@echo "Installing PyTorch, transformers, tokenizers and SciPy to compare with: 1 GB, or several with PyTorch's GPU build"
	@$(if $(TORCH_INDEX),$(PIP) install torch==2.13.0 --index-url $(TORCH_INDEX))
	@$(PIP) install --editable ".[reference]"
	@touch $@
