# make demo   profiles the example service and names the files to open
# make test   the whole suite
# make lint   ruff and mypy
#
# Each sets up .venv first, with the newest-found python3 >= 3.11; a second call starts at once.
# PYTHON=/path/to/python3.12 VENV=.venv-3.12 choose others.

VENV ?= .venv
PYTHON ?= $(shell bash .ci/pythons | head -n 1 | cut -d ' ' -f 2-)
ARGS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO := demo

.PHONY: demo test lint format clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.demo-ready
	@mkdir -p $(DEMO)
	$(BIN)/greenprof run --force -o $(DEMO)/orders.gprof examples/orders/main.py
	@$(BIN)/greenprof export --force $(DEMO)/orders.gprof -o $(DEMO)/orders.speedscope.json
	@$(BIN)/greenprof export --force $(DEMO)/orders.gprof -o $(DEMO)/orders.collapsed
	@$(BIN)/greenprof show $(DEMO)/orders.gprof

test: $(VENV)/.dev-ready
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev-ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-* $(DEMO) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

$(VENV)/.created:
	@if [ -z "$(PYTHON)" ]; then \
	    echo "greenprof needs Python 3.11 or newer with venv and pip; found: $$(python3 -V 2>&1)." >&2; \
	    echo "Install one (on Debian and Ubuntu: apt-get install python3 python3-venv)," >&2; \
	    echo "or name it: make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	fi
	"$(PYTHON)" -m venv $(VENV)
	@touch $@

$(VENV)/.demo-ready: $(VENV)/.created pyproject.toml
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.dev-ready: $(VENV)/.created pyproject.toml
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.demo-ready
