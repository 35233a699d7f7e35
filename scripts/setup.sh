#!/usr/bin/env bash
# Make .venv at the root of the repository and install the project with its test tools.
# Safe to run again, and fast when pyproject.toml has not changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
  for name in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
    if [ -n "$name" ] && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  echo "error: Python 3.11 or newer is needed; set PYTHON to one" >&2
  return 1
}

stamp=.venv/installed
wanted="$(cksum <pyproject.toml) $PWD"
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
  python=$(find_python)
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  echo "Installing into .venv (several GB the first time, for PyTorch) ..."
  # One call for all, so that torch and torchvision are resolved together.
  .venv/bin/python -m pip install --quiet --editable '.[test]'
  echo "$wanted" >"$stamp"
fi
