#!/usr/bin/env bash
# Run a part of the tests in .venv-lowest, with the lowest version that pyproject.toml allows of each library.
# What those need in turn is as new as it can be. Arguments go to pytest, in place of that part.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv-lowest stamp=.venv-lowest/installed
wanted=$(cksum <pyproject.toml)
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
  "${PYTHON:-python3.11}" -m venv --clear "$venv"
  echo "Installing into $venv (several GB, for PyTorch) ..."
  "$venv/bin/python" -m pip install --quiet uv
  "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --resolution lowest-direct \
    --editable '.[test]'
  echo "$wanted" >"$stamp"
fi
export HF_HUB_OFFLINE=1
export OMP_NUM_THREADS=1

# Without test_fsdp.py: in torch 2.6, FSDP 2 works on GPUs only.
part=(tests/unit tests/integration/test_pretrain.py tests/integration/test_finetune.py
  tests/integration/test_export.py tests/integration/test_survival.py)
[ $# = 0 ] || part=("$@")
# Old libraries use what newer ones will remove: no fault of ours, as other warnings are.
exec "$venv/bin/python" -m pytest -n 2 -W default::DeprecationWarning -W default::FutureWarning "${part[@]}"
