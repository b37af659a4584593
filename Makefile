# Two commands: `make verify` runs the conformance suite, `make test` checks the project itself.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: verify test bench mutants clean

verify: $(STAMP)
	$(VENV)/bin/pytest $(ARGS)

test: $(STAMP)
	$(VENV)/bin/tox run $(ARGS)

bench: $(STAMP)
	$(VENV)/bin/python -m benchmarks $(ARGS)

mutants: $(STAMP)
	$(VENV)/bin/python -m mutants $(ARGS)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name it with: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .tox .pytest_cache .mypy_cache .ruff_cache *.egg-info
