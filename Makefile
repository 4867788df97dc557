# make demo          profiles the example service and names the files to open
# make food          the same with examples/food_delivery: Django on PostgreSQL
# make test          the whole suite; installs Chromium for it where there is none and it may
# make lint          ruff and mypy
# make screenshots   docs/images, from the example service in a real browser
#
# Each sets up .venv first, with the first Python >= 3.11 that runs; a second call starts at once.
# PYTHON=/path/to/python3.12 VENV=.venv-3.12 choose others.

VENV ?= .venv
PYTHON ?= $(shell bash .ci/pythons | head -n 1 | cut -d ' ' -f 2-)
ARGS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
DEMO := demo
DEMO_FILES := $(addprefix $(DEMO)/orders.,gprof html speedscope.json collapsed txt)

.PHONY: demo food test lint format screenshots clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.demo-ready
	@mkdir -p $(DEMO)
	$(BIN)/greenprof run --force --awaits $(DEMO_FILES:%=-o %) examples/orders/main.py $(ARGS)
	@echo
	@$(BIN)/greenprof show $(DEMO)/orders.gprof
	@echo
	@echo "Open:"
	@echo "  $(DEMO)/orders.html              in a browser: flame graph, tables, everything"
	@echo "  $(DEMO)/orders.txt               the summary and whole stacks as trees"
	@echo "  $(DEMO)/orders.gprof             with $(BIN)/greenprof show --tree $(DEMO)/orders.gprof"
	@echo "  $(DEMO)/orders.speedscope.json   at https://www.speedscope.app"
	@echo "  $(DEMO)/orders.collapsed         with flamegraph.pl or inferno"

food: $(VENV)/.food-ready
	@mkdir -p $(DEMO)
	$(BIN)/greenprof run --force -o $(DEMO)/food.gprof -o $(DEMO)/food.html \
	    examples/food_delivery/run.py $(ARGS)
	@echo
	@$(BIN)/greenprof show $(DEMO)/food.gprof
	@echo
	@echo "Open $(DEMO)/food.html in a browser, and press 'my code only'."

test: $(VENV)/.dev-ready $(VENV)/.browser-ready
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev-ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

screenshots: $(VENV)/.dev-ready $(VENV)/.browser-ready
	$(BIN)/python -m docs.screenshots

clean:
	rm -rf .venv .venv-* $(DEMO) .mypy_cache .ruff_cache .pytest_cache* .hypothesis build dist

$(VENV)/.created:
	@if [ -z "$(PYTHON)" ]; then \
	    echo "greenprof needs Python 3.11 or newer with venv and pip; found: $$(python3 -V 2>&1)." >&2; \
	    echo "Install one (on Debian and Ubuntu: apt-get install python3 python3-venv)," >&2; \
	    echo "or name it: make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	fi
	@echo "Setting up $(VENV) with $(PYTHON); this takes a minute, once."
	@"$(PYTHON)" -m venv $(VENV)
	@touch $@

$(VENV)/.demo-ready: $(VENV)/.created pyproject.toml
	@$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.food-ready: $(VENV)/.created pyproject.toml
	@$(PIP) -e '.[food]'
	@touch $@

$(VENV)/.dev-ready: $(VENV)/.created pyproject.toml
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.demo-ready $(VENV)/.food-ready

# Tried once: where no browser can be had, the suite says so at its end.
$(VENV)/.browser-ready: $(VENV)/.dev-ready
	@$(BIN)/python -m tests.browser --install
	@touch $@
