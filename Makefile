# `make train` and `make test` need Python 3.11 or newer and nothing else.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: train test test-jaxlibs native check clean

train: .venv/installed
	$(BIN)/python launch.py train --config=configs/digits.py --workdir=runs/digits

test: .venv/installed-test
	$(BIN)/pytest --numprocesses=2

# The compiler's own faults, with each jaxlib; needs python3.11, python3.12 and python3.13.
test-jaxlibs:
	$(PYTHON) tests/jaxlibs.py .venv-jaxlibs

# Faster convolutions on Linux on x86-64; needs GCC 11 or newer (native/README.md).
native: .venv/installed
	$(INSTALL) ./native

check: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(INSTALL) --editable '.[test]'
	touch $@

clean:
	rm -rf .venv .venv-jaxlibs
