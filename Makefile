# What a developer types: make demo, make test, make check, make test-all, make clean.
PYTHON ?= python3
VENV ?= .venv
READY := $(VENV)/.ready
CROSSCHECK := $(VENV)/.crosscheck
INSTALL := $(VENV)/bin/python -m pip install -q -q --disable-pip-version-check -c constraints.txt
PYTEST := OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n 2

.PHONY: help demo test test-all check clean

help:
	@echo "make demo      set up $(VENV) and train: the default task (ner) and algorithm (dqn) on the packaged sample"
	@echo "make test      set up $(VENV) and run the quick tests"
	@echo "make test-all  the slow, the distributed and the cross-check tests too"
	@echo "make check     style, types and import layers"
	@echo "make clean     remove $(VENV), caches and builds; runs/ stays"
	@echo "with another Python (3.11 or newer): make demo PYTHON=python3.12"

demo: $(READY)
	$(VENV)/bin/rlft train

test: $(READY)
	$(PYTEST) -m "not slow and not distributed"

test-all: $(CROSSCHECK)
	$(PYTEST)

check: $(READY)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy --strict
	$(VENV)/bin/lint-imports

# One file says that everything is installed; new pins or dependencies install again.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "rlft needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1);" \
			"name another one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "setting up $(VENV) (once; some minutes, most of it downloading and unpacking torch)"
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[all,dev]'
	@touch $@

# The libraries that tests/crosschecks/ hold rlft against: small, and none of them moves a pinned version.
$(CROSSCHECK): $(READY)
	$(INSTALL) -e '.[all,crosscheck,dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find rlft_cli tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
