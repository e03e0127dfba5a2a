# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Each process takes tests from one that has many left, so that no file is waited for at the end.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist worksteal

.PHONY: help demo quick test test-all lint docs install clean

help:  ## list these commands
	@sed -n 's/^\([a-z-]*\):.*  ## /make \1\t/p' Makefile | expand -t 16

# The stamp is newer than the files that say what is installed, or the environment is brought up to date.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,docs]'
	touch $@

install: $(VENV)/.installed tree  ## install into .venv, in place, with what the tests need

# The package as it is installed, made of links: mypy, import-linter, the tests and the doctests read a tree.
tree: $(wildcard atlaseg/*)
	rm -rf $@ && mkdir -p $@/atlaseg
	for part in atlaseg/*.py atlaseg/py.typed pipeline atlases workflows configs; do \
		ln -s ../../$$part $@/atlaseg/$$(basename $$part); done

demo: install  ## train on made-up scans, segment others and compare, in minutes
	$(BIN)/atlaseg demo

lint: install  ## formatting, style, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	rm -rf build/imports && mkdir -p build/imports && cp -rL tree/atlaseg build/imports/  # it follows no links
	cd build/imports && $(abspath $(BIN))/lint-imports ../../pyproject.toml

# The site, into site/; a warning is an error. -P: mkdocs must not take the folder atlaseg/ here for the package.
docs: install  ## the documentation site, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -P -m mkdocs build --strict

quick: install  ## an answer in three minutes: tests without trainings, several registrations or other processes
	$(PYTEST) -m 'not thorough and not slow and not gpu'

test: lint  ## lint and all tests but the slow ones, with coverage: what CI runs
	$(PYTEST) --cov --cov-report=term

test-all: test  ## also the slow tests: bad inputs of every command, and trainings that go on for minutes
	$(PYTEST) -m slow

clean:  ## remove what these commands made
	rm -rf $(VENV) tree build site atlaseg-demo
