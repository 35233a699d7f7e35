#!/usr/bin/env bash
# Build the site from docs/ into docs/_build: warnings, and links within the site that lead nowhere, are errors.
# Arguments go to sphinx-build, for example: -E to read all pages again. The notebook is run, which takes some two minutes
# the first time; DOCS_NOTEBOOK=off leaves its pictures out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ ! -f .venv/bin/activate ] || source .venv/bin/activate
export HF_HUB_OFFLINE=1
export OMP_NUM_THREADS=1
python -m sphinx -b html -W --keep-going -n -q "$@" docs docs/_build
echo "site: docs/_build/index.html"
