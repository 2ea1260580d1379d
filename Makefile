# Everything a newcomer or a machine runs. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A CPU machine may point this at a CPU build of torch, e.g. TORCH="torch==2.13.0 --index-url URL".
TORCH ?= torch==2.13.0

.DEFAULT_GOAL := help
.PHONY: help setup demo test check audit fix serve clean lock bench-sequences bench-cost bench-evaluation bench-methods bench-gate bench-attacks bench-throughput bench-api test-faults

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

setup: $(STAMP) ## make .venv with pinned dependencies

demo: $(STAMP) ## watch a language model forget a person (first run installs everything)
	$(BIN)/lethe demo

serve: $(STAMP) ## start the embedded service on http://127.0.0.1:8000
	$(BIN)/lethe serve

test: $(STAMP) ## run every test, two files at a time
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-faults: $(STAMP) ## kill, freeze, cut and corrupt a production Lethe 200 times (needs PostgreSQL and Redis; half an hour)
	$(BIN)/python -m tests.faults.matrix --runs 200 --seed $${SEED:-1}
	$(BIN)/python -m tests.faults.real

check: $(STAMP) ## lint, format, types, import contracts, house rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.house_rules

bench-sequences: $(STAMP) ## forget twenty people one after another, under five plans (an hour; resumes)
	$(BIN)/python -m benchmarks.sequences --seeds 1,2,3 --strategies default,quick,npo,ascent,bare --processes 2
	$(BIN)/python -m benchmarks.sequences_summary

bench-cost: $(STAMP) ## operations of forgetting beside those of training again (a quarter of an hour)
	$(BIN)/python -m benchmarks.cost

bench-evaluation: $(STAMP) ## seconds and memory of judging a request beside those of forgetting it (minutes)
	$(BIN)/python -m benchmarks.evaluation_cost

bench-methods: $(STAMP) ## every method at four step sizes on TOFU (needs its files; half an hour; resumes)
	$(BIN)/python -m benchmarks.methods --processes 2
	$(BIN)/python -m benchmarks.methods_summary

bench-gate: $(STAMP) ## known good and bad candidates before the gate, on TOFU (needs its files; 50 minutes on two cores; resumes)
	$(BIN)/python -m benchmarks.gate --seeds 1,2 --singles 10 --made 2,2,1 --processes 2
	$(BIN)/python -m benchmarks.gate_summary

bench-attacks: $(STAMP) ## what the attacks cost beside the unlearning they try (a minute or two)
	$(BIN)/python -m benchmarks.attack_cost

bench-throughput: $(STAMP) ## 20 models of 10 requests over four workers beside one (needs PostgreSQL and Redis; ten minutes)
	$(BIN)/python -m benchmarks.throughput

bench-api: $(STAMP) ## calls a second, how soon, and what the API holds on to (needs PostgreSQL and Redis; minutes)
	$(BIN)/python -m benchmarks.api_load --minutes $${MINUTES:-2}

audit: $(STAMP) ## look the pinned dependencies up among known vulnerabilities (needs the network)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/python -m pip_audit --strict --disable-pip --no-deps -r constraints.txt

fix: $(STAMP) ## let the linter repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(STAMP) ## write constraints.txt from the present .venv
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean: ## remove .venv and caches
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis
