# Shortcuts for the scripts in scripts/; `make` lists them.

BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup test unit lint demo docs

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-8s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv and install the project with its test tools
	scripts/setup.sh

test: ## Every check: format, lint, import layers, types, all tests
	scripts/test.sh

unit: setup ## Only the fast tests
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/unit

lint: setup ## Format, lint, import layers and types, without tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

demo: ## Pretrain and fine-tune on real images: 6 to 7 minutes on two CPU cores
	scripts/demo.sh

docs: setup ## Build the documentation: docs/_build/index.html
	scripts/docs.sh
