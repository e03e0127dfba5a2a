# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all lint docs install clean

# The stamp is newer than the files that say what is installed, or the environment is brought up to date.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,docs]'
	touch $@

install: $(VENV)/.installed tree

# The package as it is installed, made of links: mypy, import-linter and the doctests read a tree.
tree: $(wildcard atlaseg/*)
	rm -rf $@ && mkdir -p $@/atlaseg
	for part in atlaseg/*.py atlaseg/py.typed pipeline atlases workflows configs; do \
		ln -s ../../$$part $@/atlaseg/$$(basename $$part); done

demo: install
	$(BIN)/atlaseg demo

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	rm -rf build/imports && mkdir -p build/imports && cp -rL tree/atlaseg build/imports/  # it follows no links
	cd build/imports && $(abspath $(BIN))/lint-imports ../../pyproject.toml

# The site, into site/; a warning is an error. -P: mkdocs must not take the folder atlaseg/ here for the package.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -P -m mkdocs build --strict --quiet

test: lint
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --cov --cov-report=term

# What takes longer than the quick suite allows too: the bad inputs of every command, and trainings that go on for minutes.
test-all: test
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m slow

clean:
	rm -rf $(VENV) tree site atlaseg-demo
