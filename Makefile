# Everything sets up what it needs; a fresh machine needs Python 3.11+ (with venv) and make.
PYTHON ?= python3
VENV := .venv
OLD := .venv-old
TRAINERS := .venv-trainers
LIGHTNING := .venv-lightning
EMITTERS := .venv-emitters
# options of pip for torch, such as --index-url https://download.pytorch.org/whl/cpu
TORCH :=
BIN := $(VENV)/bin
PIP := -m pip install --quiet --disable-pip-version-check

# tests start a thousand programs, each of which would compile the source for itself
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all browser lint coverage mutate bench bench-scale clean

demo: $(VENV)/.demo ## record, look, validate, export: the main job, without a key or network
	$(BIN)/odograph demo

test: $(VENV)/.dev $(OLD)/.done $(TRAINERS)/.done ## the tests
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow"

test-all: $(VENV)/.dev $(OLD)/.done $(TRAINERS)/.done $(LIGHTNING)/.done $(EMITTERS)/.done coverage ## the tests, slow ones too, and coverage
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

browser: ## Debian's Chromium, for the tests of the viewer's pages; without one, these tests are skipped
	@command -v chromium >/dev/null || { apt-get update -q && apt-get install -y -q --no-install-recommends chromium; }

lint: $(VENV)/.dev ## format, style, types, floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.typed --at-least 97

# what must not be wrong unseen, with the share of its lines and branches that tests reach at least
FLOORS := store/*:90 capture/*:87 redact.py:95 lineage/*:95 training/rows.py:97
MEASURED := tests/store tests/capture tests/lineage tests/training tests/test_redact.py tests/test_packing.py tests/test_codec.py \
  tests/viewer/test_sharing.py tests/statistics/test_columns.py

coverage: $(VENV)/.dev ## which lines and branches the tests reach, with a floor for each part
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest -q -p no:xdist -m "not slow" -k "not (2000_calls or disk_that_is_full or what_its_calls_cost)" $(MEASURED) \
	  --deselect tests/training/test_trainers.py
	$(BIN)/coverage combine -q
	@set -e; for floor in $(FLOORS); do $(BIN)/coverage report --include="src/odograph/$${floor%:*}" --fail-under=$${floor#*:}; done

mutate: $(VENV)/.dev ## breaks the source place by place and lists what no test notices; MUTATE="store --most 50 --seed 1"
	$(BIN)/python -m tests.mutate $(MUTATE)

bench-scale: $(VENV)/.dev ## the sealed tier at a million steps: SCALE="--steps 40000" for a look, SCALE=--full for five million
	$(BIN)/python -m bench.scale $(SCALE)

bench: $(VENV)/.dev ## the hot path and what else has a budget, as ratios
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) $(OLD) $(TRAINERS) $(LIGHTNING) $(EMITTERS) .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache .coverage .coverage.* odograph-demo bench-data .agents

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Odograph needs Python 3.11 or later; found $$($(PYTHON) --version 2>&1). Set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python $(PIP) -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python $(PIP) -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.demo

# SDKs of before httpx2, which `wrap` has to know too
$(OLD)/.done: constraints-old.txt pyproject.toml
	$(PYTHON) -m venv $(OLD)
	$(OLD)/bin/python $(PIP) -r constraints-old.txt
	@touch $@

# what trains on the exports, 2 GB; torch first, which needs an index of its own where it is to come without CUDA
$(TRAINERS)/.done: constraints-trainers.txt
	$(PYTHON) -m venv $(TRAINERS)
	$(TRAINERS)/bin/python $(PIP) $(TORCH) torch==2.13.0
	$(TRAINERS)/bin/python $(PIP) -r constraints-trainers.txt
	@touch $@

# agent-lightning's own classes, 0.8 GB; it wants other versions of what the trainers want
$(LIGHTNING)/.done: constraints-lightning.txt
	$(PYTHON) -m venv $(LIGHTNING)
	$(LIGHTNING)/bin/python $(PIP) -r constraints-lightning.txt
	@touch $@

# instrumentation that sends OpenTelemetry: what the collector receives; the AI SDK of Vercel where npm is
$(EMITTERS)/.done: constraints-emitters.txt
	$(PYTHON) -m venv $(EMITTERS)
	$(EMITTERS)/bin/python $(PIP) -r constraints-emitters.txt
	@! command -v npm >/dev/null || npm i --silent --no-audit --no-fund --prefix $(EMITTERS) ai@6 @ai-sdk/openai-compatible@2 zod@4 \
	  @opentelemetry/sdk-trace-node@2 @opentelemetry/exporter-trace-otlp-http@0.223
	@touch $@
