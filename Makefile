# One environment, .venv, made when it is first needed and again when pyproject.toml changes.

PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal
STAMP := .venv/installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-all covered mutants lowest dist coverage check docs docs-version clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(STAMP) ## Accelerate the embedded model, and write a report with pictures
	@$(BIN)/otcache demo

test: $(STAMP) ## Run the tests, some minutes
	@$(PYTEST) -m "not slow"
	@echo "Those that are marked slow were left out: make test-all runs them too"

test-all: $(STAMP) ## Run all tests, those too that start clusters, install packages and kill processes
	@$(PYTEST)

covered: $(STAMP) ## Run the tests, and list the lines and branches that they leave out
	@rm -f .coverage .coverage.*
	@$(BIN)/python -m coverage run -m pytest -n auto --dist worksteal -m "not slow"
	@$(BIN)/python -m coverage combine --quiet
	@rm -f .coverage.*  # of processes that tests killed while they wrote
	@$(BIN)/python -m coverage report --include='*/otcache_policies/*' --fail-under=95
	@$(BIN)/python -m coverage report --include='*/otcache_registry/*' --fail-under=95
	@$(BIN)/python -m coverage report --include='*/otcache_plugin/*' --fail-under=90

mutants: $(STAMP) ## Change otcache_policies in 300 small ways, and list what its tests do not notice
	@$(BIN)/python tools/mutants.py --sample 300

lowest: $(STAMP) ## Test against the lowest versions that pyproject.toml allows
	@$(BIN)/python tools/lowest.py

dist: $(STAMP) ## Build what goes to PyPI into dist/, with ADDRESS=https://… of the repository
	@$(BIN)/python tools/distributions.py --address "$(ADDRESS)"

coverage: $(STAMP) ## Try every pipeline, tiny, with every executor, and write the results
	@PYTHONPATH=tests:tests/helpers $(BIN)/python -m matrix

check: $(STAMP) ## Check style, types and the imports' direction
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

docs: $(STAMP) ## Build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# mike calls mkdocs by its name.
docs-version: $(STAMP) ## Put the documentation on the branch gh-pages, as VERSION=0.1 and as the latest
	@PATH="$(CURDIR)/$(BIN):$$PATH" NO_MKDOCS_2_WARNING=1 OTCACHE_VERSIONS=mike mike deploy --update-aliases "$(VERSION)" latest

clean: ## Delete the environment and everything that was built
	rm -rf .venv .lowest build dist site otcache-demo *.egg-info
	rm -rf .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

# The stamp is written last: after a failed installation the next make tries again.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v >= (3, 11) or sys.exit("otcache-plugin needs Python 3.11 or later, and $(PYTHON) is %d.%d. Name another: make PYTHON=python3.12" % v)'
	@echo "Installing otcache-plugin and its development tools into .venv (PyTorch is among them: several GB, some minutes)"
	@rm -f $@
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
