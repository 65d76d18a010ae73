# CellKiosk: `make run` starts the suite on this machine, `make test` runs everything; `make help` names the rest.
# The environments (.venv, .venv-triton) are made when they are missing or their lock files changed.

PYTHON ?= python3
VENV   ?= $(or $(KIOSK_VENV),.venv)
WORKERS ?= 2
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: run test lint format bench chaos docs serve-docs lock install clean help local dev triton \
	docker/build docker/run uninstall

run: local ## Start the whole suite on this machine; Ctrl-C stops it
	@./kiosk up

test: dev triton ## Run every test
	@$(BIN)/python -m pytest -q -n $(WORKERS) $(TESTS)

lint: dev ## Check style, types and layers
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: dev ## Format the code and mend what can be mended by itself
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: dev triton ## Run every benchmark, and show each promised figure beside its target (ARGS=--quick)
	@$(BIN)/python -m benchmarks $(ARGS)

chaos: dev triton ## Kill parts of the suite at random and count what was lost
	@KIOSK_CHAOS_JOBS=$${KIOSK_CHAOS_JOBS:-10000} $(BIN)/python -m pytest -q tests/chaos

docs: dev ## Build the documentation into site/, warnings as errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

serve-docs: dev ## Show the documentation at http://127.0.0.1:8088 while you write
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8088

lock: dev ## Lock the dependencies again (needs uv)
	@sh requirements/lock.sh

# Without anything on the host but Docker: the console in its container.
IMAGE  ?= cellkiosk/console
PREFIX ?= /usr/local

docker/build: ## Build the console's container
	@docker build --quiet --file services/console/Dockerfile --tag $(IMAGE) .

docker/run: ## Run the console's container, with the arguments in ARGS
	@sh services/console/in-docker.sh $(ARGS)

install: ## Put a `kiosk` that runs in the container on PATH (PREFIX=/usr/local)
	@install -d "$(PREFIX)/bin"
	@install -m 755 services/console/in-docker.sh "$(PREFIX)/bin/kiosk"

uninstall: ## Remove it again
	@rm -f "$(PREFIX)/bin/kiosk"

local:
	@$(PYTHON) requirements/install.py local

dev:
	@$(PYTHON) requirements/install.py dev

# Exit code 3: Triton cannot run on this machine, the models run in process, and its tests skip with the reason.
triton: dev
	@$(BIN)/python -m services.triton.environment || [ $$? -eq 3 ]

clean: ## Remove what was made here (environments, caches, site; never ./data)
	@rm -rf .venv .venv-triton .venv.lock .venv-triton.lock .mypy_cache .ruff_cache .hypothesis .import_linter_cache site dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z\/-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
