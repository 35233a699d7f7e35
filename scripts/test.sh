#!/usr/bin/env bash
# Set up, then run every check: format, lint, imports, types, documentation, tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
source .venv/bin/activate
export HF_HUB_OFFLINE=1
export OMP_NUM_THREADS=1  # two test processes share the cores

ruff format --check .
ruff check .
lint-imports
mypy
DOCS_NOTEBOOK=off scripts/docs.sh # a test runs the notebook, with fewer steps
python -m pytest -n 2 "$@"
